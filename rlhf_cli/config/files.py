"""Read a preset or a user's YAML file: check it, make its paths absolute, separate its choices from its values.

    model: smollm2                               a name or a number chooses that option of the group
    temperature: {kind: linear, start: 1.2}      `kind` chooses the option, the rest are values over it
    reward: {kind: weighted, parts: {tone: sentiment, short: {kind: length, target: 5}}}      named parts likewise
    optimizer: {lr: 1e-4}                        values over the inherited option
    defaults: [other.yaml, {beta: linear}]       files and presets to build on, and options again

An option with values over it is an option of its own, named by the file's path. So a choice on the command line, or in
a file that builds on this one, replaces both: none of this file's values for the group remain.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rlhf_cli.config.arguments import parse_override, rewrite, unquote
from rlhf_cli.config.keys import did_you_mean, fields, make_paths_absolute, schema_name
from rlhf_cli.config.options import (
    PRESET,
    check_option,
    config_dir,
    default_option,
    files_of_first,
    files_of_option,
    groups,
    is_number,
    preset_path,
    takes_numbers,
)
from rlhf_cli.config.security import TRUST, find_code
from rlhf_cli.config.yaml_text import parse_yaml
from rlhf_cli.errors import UserError
from rlhf_cli.paths import relative_to_here
from rlhf_cli.runs.changes import is_under
from rlhf_cli.settings import as_text

PARTS = "parts"  # the key of a group that combines several of its own kind, by name


@dataclass(frozen=True)
class UserFile:
    """The content of one file."""

    path: Path
    bases: Sequence[Path]
    """The presets and files that it builds on; the last one wins."""
    choices: Mapping[str, str]
    """Group -> the option that the file chooses: one of configs/, a number, or a file's path."""
    parts: Mapping[str, tuple[str, Mapping[Any, Any]]]
    """Group -> an option and the values over it; `choices` has this file's path for the group."""
    values: Mapping[str, Any]
    """All its other settings."""
    lines: Mapping[str, int]
    """Dotted key -> the line it stands on."""


def locate(files: Sequence[UserFile], key: str) -> str:
    """Find the line that sets the key, or else its group: `my-run.yaml:7`; without one, the first file's name."""
    while key:
        for file in files:
            if key in file.lines:
                return f"{relative_to_here(file.path)}:{file.lines[key]}"
        key = key.rpartition(".")[0]
    return str(relative_to_here(files[0].path))


def find_setter(key: str, overrides: Sequence[str], choices: Mapping[str, Any]) -> str:
    """Find what sets the value of `key`: `the command line: beta=0.1`, or a file and line, `configs/train.yaml:7`.

    `choices` has the option of each group as hydra composed it: a name, a number, or a user's file.
    """
    parsed = [parse_override(override) for override in overrides]
    typed = {each.key_or_group: unquote(str(each.input_line)).lstrip("+") for each in parsed if not each.package}
    added = {each.package: each for each in parsed if each.package}  # +reward@reward.parts.NAME=OPTION
    group = key.partition(".")[0] if key.partition(".")[0] in groups() else ""
    option, name = str(choices.get(group, "")), key.removeprefix(f"{group}.")
    while option.startswith("/"):
        option = read_file(Path(option)).parts[group][0]
    is_the_number = name == "value" and is_number(option)
    for known, argument in typed.items():
        if is_under(key, (known,)) and (known != group or is_the_number):
            return f"the command line: {argument}"
    part, _, inside = name.removeprefix(f"{PARTS}.").partition(".")
    if name.startswith(f"{PARTS}.") and (one := added.get(f"{group}.{PARTS}.{part}")) is not None:
        return f"{_first_place(files_of_option(group, str(one.value())), inside)} ({unquote(str(one.input_line))})"
    presets = [default_option(PRESET), *(each.value() for each in parsed if each.key_or_group == PRESET)]
    for file in read_with_bases(preset_path(str(presets[-1]))) if group not in typed else ():
        if key in file.lines or (is_the_number and file.choices.get(group) == option):
            return _place(file.path, file.lines.get(key) or file.lines[group])
        parts = options_of_parts(file.parts[group][1]) if group in file.parts else {}
        if name.startswith(f"{PARTS}.") and part in parts:
            option, name = parts[part], inside
            break
        if f"{group}.kind" in file.lines or (group in file.lines and group not in file.parts):
            break  # its choice of an option replaces what the files below it say of the group
    own = files_of_option(group, option) if group else files_of_first()
    place = _first_place(own, name)
    return f"{place} ({typed[group]})" if group in typed else place


def _first_place(files: Sequence[Path], name: str) -> str:
    """The place of a setting in the first of the files that has it."""
    found = ((file, line) for file in files if (line := parse_yaml(file)[1].get(name)))
    return next((_place(file, line) for file, line in found), "the schema")


def _place(path: Path, line: int) -> str:
    own = config_dir()
    return f"{Path(own.name) / path.relative_to(own) if path.is_relative_to(own) else relative_to_here(path)}:{line}"


def read_with_bases(path: Path, above: Sequence[Path] = ()) -> list[UserFile]:
    """Read a file and all files that it builds on, the winning one first; `above` are the files that build on it.

    Raises UserError as `read_file` does.
    """
    file = read_file(path, above)
    return [file, *(below for base in reversed(file.bases) for below in read_with_bases(base, (*above, path)))]


def read_file(path: Path, above: Sequence[Path] = ()) -> UserFile:
    """Read and check one file.

    Raises UserError if it cannot be read, is no YAML mapping, builds on itself, chooses an option that does not exist,
    or could run code.
    """
    if path in above:
        raise UserError(f"{relative_to_here(above[-1])}: builds on {relative_to_here(path)}, which builds on it")
    body, lines = parse_yaml(path)
    errors_name_line = partial(_errors_name_line, path, lines)
    if key := find_code(body):
        with errors_name_line(key):
            only = ": only the command line may say it" if key.endswith(TRUST) else ""
            raise UserError(f"{key}: not allowed in a file, since it could run code{only}")
    for key in body:
        if "." in str(key) and schema_name(str(key)) in fields():
            outer, _, inner = str(key).partition(".")
            with errors_name_line(key):
                raise UserError(f"{key}: a file has no dotted keys: write {outer}: {{{inner}: ...}}")
    values = make_paths_absolute(body, path.parent)
    with errors_name_line("hydra.sweeper.params"):
        _rewrite_params(values.get("hydra", {}).get("sweeper", {}), path.parent)
    with errors_name_line("defaults"):
        bases, choices = _read_defaults(values.pop("defaults", None) or [], path.parent)

    parts: dict[str, tuple[str, Mapping[Any, Any]]] = {}
    for group in [group for group in groups() if group in values]:
        base = choices.get(group)
        if base is None and isinstance(values[group], dict):
            base = _inherited_option(group, bases, (*above, path))
        with errors_name_line(group):
            match values[group]:
                case None | "???":  # hydra's mark for a value still to come: nothing is chosen yet
                    del values[group]
                case str() | int() | float() if not isinstance(values[group], bool):
                    choices[group] = check_option(group, str(values.pop(group)), path.parent, in_file=True)
                case list() | bool():
                    raise UserError(
                        f"{group}: must be the name of an option, {'a number, ' if takes_numbers(group) else ''}"
                        "or a mapping; several are a sweep: rlhf train -m"
                    )
                case {"kind": kind, **over}:
                    parts[group] = check_option(group, as_text(kind), path.parent, in_file=True), over
                case {**over} if base is not None:
                    parts[group] = base, over
    for group, (_, inside) in parts.items():
        if not isinstance(inside.get(PARTS, {}), Mapping):  # hydra would merge it with a mapping
            with errors_name_line(f"{group}.{PARTS}"):
                raise UserError(f"{group}.{PARTS}: must be a mapping, NAME: OPTION")
        for name, option in options_of_parts(inside).items():
            with errors_name_line(f"{group}.{PARTS}.{name}"):
                check_option(group, option, path.parent, in_file=True)
        choices[group] = str(path)
        del values[group]
    return UserFile(path, bases, choices, parts, values, lines)


@contextmanager
def _errors_name_line(path: Path, lines: Mapping[str, int], key: str) -> Iterator[None]:
    """Put the file, and the line of the key if it has one, before the message of a UserError."""
    try:
        yield
    except UserError as e:
        raise UserError(f"{relative_to_here(path)}{f':{lines[key]}' if key in lines else ''}: {e.what}") from None


def options_of_parts(values: Mapping[Any, Any]) -> dict[str, str]:
    """Find the options that the parts of a group choose, part -> option: by a bare name, or by `kind`."""
    parts = values.get(PARTS)
    options: dict[str, str] = {}
    for name, part in parts.items() if isinstance(parts, Mapping) else ():
        if isinstance(part, str):
            options[str(name)] = part
        elif isinstance(part, Mapping) and "kind" in part:
            options[str(name)] = str(part["kind"])
    return options


def _read_defaults(defaults: Any, base: Path) -> tuple[list[Path], dict[str, str]]:
    """Read a `defaults` list: the files and presets to build on, and the options of groups."""
    bases: list[Path] = []
    choices: dict[str, str] = {}
    for item in defaults if isinstance(defaults, list) else [defaults]:
        match item:
            case "_self_":
                pass
            case str():
                bases.append(preset_path(check_option(PRESET, item, base, in_file=True)))
            case {**single} if len(single) == 1:
                ((name, option),) = single.items()
                group = str(name).removeprefix("override ").lstrip("/")
                if group not in groups():
                    raise UserError(f"defaults: no group {name}{did_you_mean(group, groups())}")
                choices[group] = check_option(group, as_text(option), base, in_file=True)
            case _:
                raise UserError(f"defaults: write `- GROUP: OPTION`, `- PRESET` or `- FILE.yaml`, not {item}")
    return bases, choices


def _inherited_option(group: str, bases: Sequence[Path], above: Sequence[Path]) -> str | None:
    """Find the option of a group that the files below choose, or else train.yaml."""
    below = (file for base in reversed(bases) for file in read_with_bases(base, above))
    return next((file.choices[group] for file in below if group in file.choices), default_option(group))


def _rewrite_params(sweeper: dict[str, Any], base: Path) -> None:
    """Rewrite the sweeper's parameters, which become overrides although they are not on the command line."""
    if params := sweeper.get("params"):
        arguments = [rewrite(f"{name}={value}", base) for name, value in params.items()]
        sweeper["params"] = dict(argument.split("=", 1) for argument in arguments)
