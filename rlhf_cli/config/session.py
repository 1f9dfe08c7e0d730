"""Open hydra once for a command, with our source of configs and our resolvers; print its pages and errors."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Final

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlhf_cli.config.help.listing import key_list, option_list
from rlhf_cli.config.keys import did_you_mean
from rlhf_cli.config.naming import trial_name
from rlhf_cli.config.options import config_dir, no_such_option
from rlhf_cli.config.security import guard_environment, limit_interpolations
from rlhf_cli.config.source import RlhfSearchPath, RlhfSource
from rlhf_cli.errors import UserError, first_line
from rlhf_cli.verbs import current


@cache
def _prepare() -> None:
    """Register our config source and our resolvers with hydra."""
    Plugins.instance().register(RlhfSource)
    Plugins.instance().register(RlhfSearchPath)
    OmegaConf.register_new_resolver("trial_name", trial_name, replace=True)
    OmegaConf.register_new_resolver("verb", lambda name: str(getattr(current(), name)), replace=True)
    OmegaConf.register_new_resolver("option_list", option_list, replace=True)
    OmegaConf.register_new_resolver("key_list", _list_keys, replace=True)
    guard_environment()
    limit_interpolations()


_prints_page: Final = ContextVar("prints_page", default=False)


def _list_keys() -> str:
    """The keys for a page, as a Template takes them; nothing while a run is composed.

    omegaconf resolves the page of help whenever it is merged, and to list the keys takes half of a composition.
    """
    return key_list().replace("$", "$$") if _prints_page.get() else ""


@contextmanager
def open_hydra() -> Iterator[GlobalHydra]:
    """Open hydra on our configs; within another `open_hydra`, give the open one."""
    _prepare()
    if GlobalHydra.instance().is_initialized():
        yield GlobalHydra.instance()
        return
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield GlobalHydra.instance()


@contextmanager
def one_line_errors(place: Callable[[str], str] = lambda key: "") -> Iterator[None]:
    """Turn errors of hydra and omegaconf into a UserError of one line; `place(key)` is the place that sets a key."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError) as e:
        causes = list(_chain(e))
        raise next((c for c in causes if isinstance(c, UserError)), None) or UserError(_line(causes, place)) from e


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _line(causes: Sequence[BaseException], place: Callable[[str], str]) -> str:
    """The first line of the innermost message that is not empty, after the key that it is about.

    But of a choice that hydra does not find, the options or the groups that there are.
    """
    missing = next((c for c in causes if isinstance(c, MissingConfigException)), None)
    if missing is not None and missing.options is not None:
        group, _, choice = str(missing.missing_cfg_file).rpartition("/")
        return no_such_option(group, choice, missing.options)
    last = next((c for c in reversed(causes) if str(c).strip()), causes[0])
    key = next((key for c in causes if (key := getattr(c, "full_key", None))), "")
    if key.startswith("hydra/"):
        have = [f"hydra/{group}" for group in GlobalHydra.instance().config_loader().list_groups("hydra")]
        return f"{key}: no such group; have {', '.join(have)}{did_you_mean(key, have)}"
    return (f"{place(key)}{key}: " if key else "") + first_line(last)


@contextmanager
def _printer() -> Iterator[Any]:
    """Give the object behind hydra's `compose`: it prints the pages of `hydra.main` without parsing `sys.argv`."""
    token = _prints_page.set(True)
    try:
        with open_hydra() as opened, one_line_errors():
            yield opened.hydra
    finally:
        _prints_page.reset(token)


def show_page(options: Mapping[str, str], overrides: Sequence[str]) -> bool:
    """Print the page that the options of a command line ask for; False where they ask for none."""
    if not {"--help", "--hydra-help", "--info"} & options.keys():
        return False
    verb = current()
    flags = argparse.ArgumentParser(add_help=False)  # without those flags of hydra that we do not offer
    flags.add_argument("overrides", help=f"KEY=VALUE; for the options see rlhf {verb.words} --help")
    with _printer() as printer:
        if "--help" in options:
            printer.app_help(verb.primary, flags, argparse.Namespace(overrides=[], resolve=False))
        elif "--hydra-help" in options:
            printer.hydra_help(verb.primary, flags, argparse.Namespace(overrides=["hydra/hydra_help=train"]))
        else:
            printer.show_info(options["--info"], verb.primary, list(overrides))
    return True


def show_config(part: str, overrides: Sequence[str], *, resolve: bool) -> None:
    """Print the composed config as YAML: `job`, `hydra` or `all`."""
    with _printer() as printer:
        printer.show_cfg(current().primary, list(overrides), part, None, resolve)


def show_completion(arguments: Sequence[str]) -> None:
    """Print a shell's script, or the words that may follow; hydra's scripts take the command's name from `sys.argv`."""
    before = sys.argv
    sys.argv = ["rlhf", *arguments]
    try:
        with _printer() as printer:
            printer.shell_completion(current().primary, list(arguments))
    finally:
        sys.argv = before
