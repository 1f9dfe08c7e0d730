"""Refuse configs that could run code, work without end, hold or read a secret: a stranger may have written the file.

We never call hydra's `instantiate` on a setting, but hydra itself instantiates launchers, sweepers, callbacks and log
handlers. A file that sets one of them is refused before hydra sees it; so is an interpolation that could make one.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.base import Container
from omegaconf.resolvers import oc

from rlhf_cli.config.arguments import parse_override
from rlhf_cli.config.keys import holds_path
from rlhf_cli.credentials import kind_of_secret
from rlhf_cli.errors import EXIT_USAGE, UserError
from rlhf_cli.paths import locate, why_irregular
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.settings import flatten
from rlhf_cli.sweep.search import Search

TRUST = "trust_remote_code"
_RUNS_CODE = {"_target_", "()", "class", TRUST}
_MAKES_MAPPINGS = re.compile(r"_target_|\$\{\s*oc\.(create|decode)")
HYDRA = {  # the parts of `hydra` that a file may set, and which of their keys; None: all of them
    "run": {"dir"},
    "sweep": {"dir", "subdir"},
    "sweeper": {"params", *Search.model_fields},
    "job": {"name"},
    "launcher": None,
    "mode": None,
    "verbose": None,
}
WRITTEN_PATHS = ("run_dir", "sweep_dir")
_INSTANTIATED = ("launcher", "sweeper")
_MOST = 2000
"""The most interpolations (`${...}`) of one job; our own configs need some thirty. If each names two others, 30 levels
are a billion."""
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASS|AUTH(?!OR)|CRED|COOKIE|DSN|(^|_)PAT($|_)", re.IGNORECASE)


def find_code(body: Mapping[str, Any]) -> str | None:
    """Find the dotted key of the first setting in a file that could run code, a model's included; None without one."""
    return next(itertools.chain(_code_anywhere(body, ""), _code_of_hydra(body.get("hydra", {}))), None)


def _code_anywhere(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            dotted = f"{key}.{name}" if key else str(name)
            if name in _RUNS_CODE or (key and name == "defaults"):
                yield dotted
            yield from _code_anywhere(part, dotted)
    elif isinstance(value, list):
        for part in value:
            yield from _code_anywhere(part, key)
    elif isinstance(value, str) and _MAKES_MAPPINGS.search(value):
        yield key


def _code_of_hydra(hydra: Any) -> Iterator[str]:
    if not isinstance(hydra, Mapping):
        yield "hydra"
        return
    for name, part in hydra.items():
        keys = HYDRA.get(name, set())
        if keys is not None and not (isinstance(part, Mapping) and set(part) <= keys):
            yield f"hydra.{name}"
        if name in _INSTANTIATED and "${" in str(part):
            yield f"hydra.{name}"
    # a parameter of the sweeper becomes an override of every job: `hydra.callbacks...: value` would be one as well
    params = (hydra.get("sweeper") or {}).get("params") or {}
    if not isinstance(params, Mapping) or any("hydra" in str(name) for name in params) or TRUST in str(params):
        yield "hydra.sweeper.params"


def refuse_unsaid_trust(
    config: TrainingConfig, typed: Iterable[str], exit_code: int = EXIT_USAGE, how: str = f"model.{TRUST}=true"
) -> None:
    """Raise UserError if a model's code would run and the overrides `typed` on the command line do not allow it.

    `how` is the text to type to allow it. The setting counts wherever it comes from, also from a file or a saved run.
    """
    is_allowed = any(
        o.key_or_group in ("model", f"model.{TRUST}") and TRUST in str(o.input_line) for o in map(parse_override, typed)
    )
    if config.model.kind == "pretrained" and config.model.trust_remote_code and not is_allowed:
        raise UserError(
            f"code that came with {config.model.path} would run, and only the command line may allow that",
            where=f"model.{TRUST}",
            fix=f"if you trust it, add {how}",
            exit_code=exit_code,
        )


def refuse_code(typed: Iterable[str]) -> None:
    """Raise UserError for an override that would make hydra import and call code: users paste commands of others."""
    for override in map(parse_override, typed):
        key = override.key_or_group
        names = {*key.split("."), *(name.rpartition(".")[2] for name in _code_anywhere({key: override.value()}, ""))}
        if names & (_RUNS_CODE - {TRUST}) or _MAKES_MAPPINGS.search(str(override.input_line)):
            raise UserError(f"{key}: not allowed, since it could run code")


def refuse_secrets(arguments: Iterable[str]) -> None:
    """Raise UserError if an argument seems to hold a secret; the message does not repeat it."""
    for argument in arguments:
        if kind := kind_of_secret(argument):
            key = argument.partition("=")[0]
            raise secret_error(kind, "an argument" if kind_of_secret(key) or key == argument else key)


def secret_error(kind: str, where: str) -> UserError:
    """The error of a config that holds a secret; `where` is the key or the line."""
    return UserError(
        f"{where}: this looks like {kind}, and a run writes its config to disk",
        fix="leave it in an environment variable: no setting holds a secret",
    )


def find_secret(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    """Find the first text in nested settings that looks like a secret: its dotted key, and the kind; or None."""
    return next(((key, kind) for key, value in flatten(settings) if (kind := kind_of_secret(str(value)))), None)


def refuse_system_files(settings: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """Raise UserError for a path in nested settings that leads into the system, or to no regular file or folder.

    A stranger's file could name /proc/self/environ as data. `where(key)` is the place that sets a key.
    """
    for key, value in flatten(settings):
        if not (isinstance(value, str) and holds_path(key)):
            continue
        path = locate(value.rpartition(":")[0] if value.rpartition(":")[0].endswith(".py") else value)
        if path is None or not (path.is_absolute() or path.exists()):  # a hub id, or a module
            continue
        for file in (path, *([] if key in WRITTEN_PATHS else _files_in(path))):
            if why := why_irregular(file):
                what = f"{where(key)}{key}: {file} is not read: {why}"
                raise UserError(what, fix="give a regular file or folder of your own")


def _files_in(folder: Path) -> list[Path]:
    """The files of a folder that may be read as part of it: a hidden one, such as .env, only where it is a link."""
    try:
        return sorted(file for file in folder.iterdir() if file.is_symlink() or not file.name.startswith("."))
    except (OSError, ValueError):  # no folder, or an unreadable one: opening it fails in better words
        return []


def guard_environment() -> None:
    """Make `${oc.env:NAME}` refuse names of secrets: a run writes its config to disk."""
    OmegaConf.register_new_resolver("oc.env", _env, replace=True)


def _env(name: str, *default: str | None) -> str | None:
    if _SECRET.search(name):
        raise UserError(f"${{oc.env:{name}}}: not allowed: it looks like a secret, and a run writes its config to disk")
    return oc.env(name, *default)


class _Count:
    """The evaluations since the last `allow_interpolations`."""

    done = 0


def allow_interpolations() -> None:
    """Begin a new job: count its evaluations from zero."""
    _Count.done = 0


def limit_interpolations() -> None:
    """Let omegaconf raise UserError from now on where a job needs more of them than _MOST; called once."""
    evaluate: Any = Container.resolve_parse_tree

    def counted(self: Container, *arguments: Any, **options: Any) -> Any:
        _Count.done += 1
        if _Count.done > _MOST:
            raise UserError(f"more than {_MOST:,} interpolations (${{...}}) are evaluated: do they name one another?")
        return evaluate(self, *arguments, **options)

    Container.resolve_parse_tree = counted  # type: ignore[method-assign]  # omegaconf has no limit of its own
