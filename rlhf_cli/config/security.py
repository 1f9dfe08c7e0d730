"""Refuse configs that could run code, or that hold or read a secret: a stranger may have written the file.

We never call hydra's `instantiate` on a setting, but hydra itself instantiates launchers, sweepers, callbacks and log
handlers. A file that sets one of them is refused before hydra sees it; so is an interpolation that could make one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from rlhf_cli.config.arguments import parse_override
from rlhf_cli.config.keys import holds_path
from rlhf_cli.errors import EXIT_USAGE, UserError
from rlhf_cli.paths import locate, why_irregular
from rlhf_cli.schema import RunConfig
from rlhf_cli.settings import flatten

TRUST = "trust_remote_code"
_RUNS_CODE = {"_target_", "()", "class", TRUST}
_MAKES_MAPPINGS = re.compile(r"_target_|\$\{\s*oc\.(create|decode)")
_HYDRA = {  # the parts of `hydra` that a file may set, and which of their keys; None: all of them
    "run": {"dir"},
    "sweep": {"dir", "subdir"},
    "sweeper": {"params"},
    "job": {"name"},
    "launcher": None,
    "mode": None,
    "verbose": None,
}
WRITTEN_PATHS = ("run_dir", "sweep_dir")
_INSTANTIATED = ("launcher", "sweeper")
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASS|AUTH(?!OR)|CRED|COOKIE|DSN|(^|_)PAT($|_)", re.IGNORECASE)
# Prefixes as their issuers document them; see docs.github.com, "GitHub's token formats", and the rules of gitleaks.
# A W&B key is 40 hexadecimal digits, like the commit in model.revision: it cannot be recognised.
_NAMES = r"(\w+[_-])?(api[_-]?key|key|token|secret|password|passwd|pwd|auth|sig|signature)"
_HEADER = r"(authorization['\"]?\s*[:=]\s*['\"]?(bearer|basic|token|digest)\s+|x-api-key['\"]?\s*[:=]\s*['\"]?)"
_VALUE = r"[^\s&$<>{(\[\\'\"]{4,}"  # no interpolation, no placeholder, no pattern
_LOOKS_LIKE = {
    "a Hugging Face token": r"(?<![^\W_])hf_[A-Za-z0-9]{20,}",
    "an API key": r"(?<![^\W_])sk-[\w-]*?[A-Za-z0-9]{20,}",  # OpenAI sk-, sk-proj-; Anthropic sk-ant-
    "a GitHub token": r"(?<![^\W_])(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{22,})",
    "a GitLab token": r"(?<![^\W_])glpat-[\w-]{20,}",
    "an AWS access key": r"(?<![^\W_])(AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",
    "a Google API key": r"(?<![^\W_])AIza[\w-]{35}",
    "a Slack token": r"(?<![^\W_])xox[abeoprs]-[\w-]{10,}",
    "a token of npm or PyPI": r"(?<![^\W_])(npm_[A-Za-z0-9]{20,}|pypi-[\w-]{20,})",
    "a Stripe key": r"(?<![^\W_])([sr]k_(live|test)|whsec)_[A-Za-z0-9]{10,}",
    "an API key of a model's host": r"(?<![^\W_])(gsk_|r8_|nvapi-|xai-|pplx-|tgp_v1_)[\w-]{20,}",
    "a JSON web token": r"(?<![^\W_])eyJ[\w-]{10,}\.[\w-]{4,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a URL with a password": r"://[^/\s:@]*:[^/\s@]+@",
    "a URL with a secret": rf"(?i)://\S*[?&;]{_NAMES}={_VALUE}",
    "a header with a secret": rf"(?i)(?<![^\W_])({_HEADER}|bearer\s+(?=\S*\d)(?=\S{{16}})){_VALUE}",
    "a password": rf"(?i)(?<![^\W_])(password|passwd|pwd)={_VALUE}",
}


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
        keys = _HYDRA.get(name, set())
        if keys is not None and not (isinstance(part, Mapping) and set(part) <= keys):
            yield f"hydra.{name}"
        if name in _INSTANTIATED and "${" in str(part):
            yield f"hydra.{name}"
    # a parameter of the sweeper becomes an override of every job: `hydra.callbacks...: value` would be one as well
    params = (hydra.get("sweeper") or {}).get("params") or {}
    if not isinstance(params, Mapping) or any("hydra" in str(name) for name in params) or TRUST in str(params):
        yield "hydra.sweeper.params"


def refuse_unsaid_trust(
    config: RunConfig, typed: Iterable[str], exit_code: int = EXIT_USAGE, how: str = f"model.{TRUST}=true"
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


def kind_of_secret(text: str) -> str | None:
    """Name the kind of secret that the text seems to hold (`a GitHub token`); None without one."""
    return next((kind for kind, pattern in _LOOKS_LIKE.items() if re.search(pattern, text)), None)


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
    try:
        return sorted(folder.iterdir())
    except (OSError, ValueError):  # no folder, or an unreadable one: opening it fails in better words
        return []


def guard_environment() -> None:
    """Make `${oc.env:NAME}` refuse names of secrets: a run writes its config to disk."""
    OmegaConf.register_new_resolver("oc.env", _env, replace=True)


def _env(name: str, *default: str | None) -> str | None:
    if _SECRET.search(name):
        raise UserError(f"${{oc.env:{name}}}: not allowed: it looks like a secret, and a run writes its config to disk")
    return oc.env(name, *default)
