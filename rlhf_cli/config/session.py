"""Hydra itself: made ready once, started by its public doors, its errors turned into one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlhf_cli.config import launcher
from rlhf_cli.config.arguments import trial_name
from rlhf_cli.config.options import config_dir, option_list
from rlhf_cli.config.security import guard_environment
from rlhf_cli.config.source import RlhfSearchPath, RlhfSource
from rlhf_cli.errors import UserError

PRIMARY = "train"
_VERSION_BASE = "1.3"


@cache
def _prepare() -> None:
    """Tells hydra of our source, our launcher and our resolvers."""
    launcher.register()
    Plugins.instance().register(RlhfSource)
    Plugins.instance().register(RlhfSearchPath)
    OmegaConf.register_new_resolver("trial_name", trial_name, replace=True)
    OmegaConf.register_new_resolver("option_list", option_list, replace=True)
    guard_environment()
    if sys.version_info >= (3, 14):
        # hydra 1.3.8 gives argparse a help text that is no str, which 3.14 checks and dies of
        check = argparse.ArgumentParser._check_help
        argparse.ArgumentParser._check_help = lambda self, action: isinstance(action.help, str) and check(self, action)


@contextmanager
def loader() -> Iterator[ConfigLoader]:
    """Hydra's loader of configs: that of the run of hydra we are in, or one of our own."""
    _prepare()
    if GlobalHydra.instance().is_initialized():
        yield GlobalHydra.instance().config_loader()
        return
    with hydra.initialize_config_dir(str(config_dir()), version_base=_VERSION_BASE):
        yield GlobalHydra.instance().config_loader()


def run(arguments: Sequence[str], task: Callable[[DictConfig], None] = lambda cfg: None) -> None:
    """Runs hydra's own main on a command line; returns also where hydra would exit in peace, after `--help`.

    Raises UserError for what hydra has against it.
    """
    _prepare()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come to us, not to hydra's own printer
    main = hydra.main(config_path=str(config_dir()), config_name=PRIMARY, version_base=_VERSION_BASE)(task)
    before = sys.argv
    sys.argv = ["rlhf", *arguments]
    try:
        with one_line_errors():
            main()
    except SystemExit as e:
        if e.code:
            raise
    finally:
        sys.argv = before


@contextmanager
def one_line_errors(place: Callable[[str], str] = lambda key: "") -> Iterator[None]:
    """Turns what hydra and omegaconf raise into a UserError of one line; `place(key)` says where a key was set."""
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
    """The first line of the innermost message that has one, and the key it is about."""
    last = next((c for c in reversed(causes) if str(c).strip()), causes[0])
    key = next((key for c in causes if (key := getattr(c, "full_key", None))), "")
    return (f"{place(key)}{key}: " if key else "") + (str(last).strip().splitlines() or [type(last).__name__])[0]
