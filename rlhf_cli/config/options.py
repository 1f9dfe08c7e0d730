"""The groups that ship in configs/, and their options; some groups also take a number, and `config` a file."""

import difflib
import json
import os
import re
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import rlhf_cli
from rlhf_cli.config.keys import did_you_mean
from rlhf_cli.errors import UserError
from rlhf_cli.verbs import cache_by_verb, current

PRESET = "config"  # the group whose options are whole runs: presets and users' files


@cache
def config_dir() -> Path:
    """The folder of train.yaml: inside an installed package, beside it in a checkout."""
    package = Path(rlhf_cli.__file__).parent
    return next(d for d in (package / "configs", package.parent / "configs") if (d / "train.yaml").is_file())


@cache_by_verb
def groups() -> tuple[str, ...]:
    """The groups of settings that a config chooses from: folders of configs/ that are keys of the verb's schema."""
    return tuple(name for name in _folders() if name in current().schema.model_fields)


def is_foreign_group(key: str) -> bool:
    """Whether the key is a group of settings of other verbs alone."""
    return key in _folders() and key not in (PRESET, *groups())


@cache
def _folders() -> tuple[str, ...]:
    return tuple(sorted(folder.name for folder in config_dir().iterdir() if folder.is_dir()))


@cache_by_verb
def options(group: str) -> tuple[str, ...]:
    """The options of a group, by name."""
    folder = config_dir() / (current().presets if group == PRESET else group)
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def read_option(group: str, name: str) -> dict[str, Any]:
    """The settings of an option, or without a group of a file in configs/, with those of the file that it extends."""
    body = yaml.safe_load((config_dir() / group / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    bases = [item for item in body.pop("defaults", ()) if group and isinstance(item, str) and item != "_self_"]
    return {**(read_option(group, bases[0]) if bases else {}), **body}


def files_of_option(group: str, option: str) -> list[Path]:
    """The file of an option, or of a number, and those that it extends, the winning one first."""
    file = config_dir() / group / f"{'constant' if is_number(option) else option}.yaml"
    defaults = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("defaults", ())
    bases = [base for base in defaults if isinstance(base, str) and base != "_self_"]
    shared = [config_dir() / "shaping.yaml"] if group == "reward" else []
    return [file, *(path for base in bases for path in files_of_option(group, base)), *shared]


def files_of_first() -> list[Path]:
    """The verb's first file, and those of settings without a group that it builds on."""
    bases = [item for item in _default_list() if isinstance(item, str) and item not in ("_self_", "shaping")]
    return [config_dir() / f"{name}.yaml" for name in (current().primary, *bases)]


@cache_by_verb
def default_option(group: str) -> str | None:
    """The option that the verb's first file chooses; None where it leaves the choice to a preset or a file."""
    chosen = (item for item in _default_list() if isinstance(item, dict) and group in item)
    option = next((str(item[group]) for item in chosen), "???")
    return None if option == "???" else option


@cache_by_verb
def _default_list() -> list[Any]:
    file = config_dir() / f"{current().primary}.yaml"
    defaults: list[Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["defaults"]
    return defaults


def takes_numbers(group: str) -> bool:
    """Whether a number is an option of the group: `beta=0.05` is short for `constant` with this value."""
    return group != PRESET and "constant" in options(group)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_file(choice: str) -> bool:
    """Whether a choice of `config` is a file rather than a preset."""
    return "/" in choice or choice.startswith("~") or choice.lower().endswith((".yaml", ".yml"))


def preset_path(choice: str) -> Path:
    """The file of a choice of `config`: a preset's name, or an absolute path."""
    return Path(choice) if is_file(choice) else config_dir() / current().presets / f"{choice}.yaml"


_FORMATS = {
    ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".txt": "text",
}  # fmt: skip
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def split_option(group: str, choice: str) -> tuple[str, str, str] | None:
    """Split a model, a file or a function that was typed as an option: into the option, the setting, and its value.

    None for a choice that looks like none of them.
    """
    path = Path(choice)
    match group:
        case "model" if re.search("[A-Za-z]", choice):
            return "pretrained", "path", choice
        case "data" if path.suffix in _FORMATS:
            return _FORMATS[path.suffix], "path", choice
        case "data" if _HUB_ID.fullmatch(choice):
            return "hub", "id", choice
        case "reward" if choice.startswith(("http://", "https://")):
            return "http", "url", choice
        case "reward" if path.suffix == ".py":
            return "python", "function", f"{choice}:FUNCTION"
        case "reward" if ":" in choice:
            return "python", "function", choice
        case "reward" if _HUB_ID.fullmatch(choice):
            return "model", "path", choice
    return None


def _instead(group: str, choice: str, *, in_file: bool) -> str:
    """`; did you mean rloo?`, or the two keys to copy; empty where neither is known."""
    keys, near = split_option(group, choice), did_you_mean(choice, options(group))
    if keys is None or (near and group == "model" and "/" not in choice):
        return near
    kind, key, value = keys
    if in_file:
        quoted = value if re.fullmatch(r"[\w./:-]+", value) else json.dumps(value)
        return f"; write {group}: {{kind: {kind}, {key}: {quoted}}}"
    return f"; write {group}={kind} {shlex.quote(f'{group}.{key}={value}')}"


def check_option(group: str, choice: str, base: Path, *, in_file: bool = False) -> str:
    """Check that `group` has the option `choice`, and return it; return a file as an absolute path, from `base`.

    `in_file`: whether a file makes the choice. Raises UserError if there is no such option, preset or file.
    """
    if group == PRESET and is_file(choice):
        path = Path(os.path.abspath(base / os.path.expanduser(choice)))
        if not path.is_file():
            siblings = [str(Path(choice).parent / p.name) for p in path.parent.glob("*.y*ml")]
            own = [name for name in siblings if Path(name).with_suffix("") == Path(choice)]  # its ending was left out
            close = own or difflib.get_close_matches(choice, siblings, n=1, cutoff=0.7)
            raise UserError(f"config={choice}: no such file{f'; did you mean {close[0]}?' if close else ''}")
        return str(path)
    if choice in options(group) or (takes_numbers(group) and is_number(choice)):
        return choice
    is_sibling = group == PRESET and (base / f"{choice}.yaml").is_file()
    near = f"; did you mean {choice}.yaml?" if is_sibling else _instead(group, choice, in_file=in_file)
    have = [*options(group), *(["or a number"] if takes_numbers(group) else [])]
    raise UserError(no_such_option(group, choice, have, near))


def no_such_option(group: str, choice: str, have: Sequence[str], near: str | None = None) -> str:
    """Say that a group has no such option, and which it has; `near` is a hint, by default the nearest of them."""
    kind, hint = "preset" if group == PRESET else "option", did_you_mean(choice, have) if near is None else near
    shown = choice if choice.strip() else f"'{choice}'"
    return f"{group}={shown}: no such {kind}; have {', '.join(have)}{hint}"
