"""A preset or a user's YAML file, read as data: checked, its paths absolute, its choices told from its values.

    model: smollm2                               a name or a number chooses that option of the group
    temperature: {kind: linear, start: 1.2}      `kind` chooses the option, the rest are values over it
    reward: {kind: weighted, parts: {tone: sentiment, short: {kind: length, target: 5}}}      so it is with named parts
    optimizer: {lr: 1e-4}                        values over the option that would be chosen without them
    defaults: [other.yaml, {beta: linear}]       files and presets to build on, and options again

Values over an option make an option of their own, named by the file: so whoever chooses another one, on the command
line or in a file that builds on this one, gets that option whole, not mixed with what the file said of the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_cli.config.arguments import rewrite
from rlhf_cli.config.keys import did_you_mean, with_absolute_paths
from rlhf_cli.config.options import PRESET, chosen, default_option, groups, preset_path
from rlhf_cli.config.security import TRUST, forbidden
from rlhf_cli.config.yaml_text import parse_yaml
from rlhf_cli.errors import UserError
from rlhf_cli.paths import relative_to_here

PARTS = "parts"  # where a group that is made of several of its own kind has them, by name


@dataclass(frozen=True)
class UserFile:
    """The content of one file."""

    path: Path
    bases: Sequence[Path]
    """The presets and files it builds on; a later one wins."""
    choices: Mapping[str, str]
    """Group -> the option it chooses: one of configs/, a number, or a file's path."""
    parts: Mapping[str, tuple[str, Mapping[Any, Any]]]
    """Group -> an option and the values over it: what the option named by this file's path consists of."""
    values: Mapping[str, Any]
    """Everything else it sets."""
    lines: Mapping[str, int]
    """Dotted key -> the line it stands on."""


def locate(files: Sequence[UserFile], key: str) -> str:
    """`my-run.yaml:7`, where the key is set, or the group it stands in; the first file alone if none sets it."""
    while key:
        for file in files:
            if key in file.lines:
                return f"{relative_to_here(file.path)}:{file.lines[key]}"
        key = key.rpartition(".")[0]
    return str(relative_to_here(files[0].path))


def read_with_bases(path: Path, above: Sequence[Path] = ()) -> list[UserFile]:
    """The file and all that it builds on, what wins first; `above` are the files that build on it.

    Raises UserError as `read` does.
    """
    file = read(path, above)
    return [file, *(one for base in reversed(file.bases) for one in read_with_bases(base, (*above, path)))]


def read(path: Path, above: Sequence[Path] = ()) -> UserFile:
    """Reads and checks one file.

    Raises UserError if it cannot be read, is no YAML mapping, builds on itself, chooses what there is not, or could run
    code.
    """
    if path in above:
        raise UserError(f"{relative_to_here(above[-1])}: builds on {relative_to_here(path)}, which builds on it")
    body, lines = parse_yaml(path)

    @contextmanager
    def stands_at(key: str) -> Iterator[None]:
        try:
            yield
        except UserError as e:
            raise UserError(f"{relative_to_here(path)}{f':{lines[key]}' if key in lines else ''}: {e.what}") from None

    if key := forbidden(body):
        with stands_at(key):
            only = ": only the command line may say it" if key.endswith(TRUST) else ""
            raise UserError(f"{key}: not allowed in a file, since it could run code{only}")
    values = with_absolute_paths(body, path.parent)
    with stands_at("hydra.sweeper.params"):
        _make_digestible(values.get("hydra", {}).get("sweeper", {}), path.parent)
    with stands_at("defaults"):
        bases, choices = _listed(values.pop("defaults", None) or [], path.parent)

    parts: dict[str, tuple[str, Mapping[Any, Any]]] = {}
    for group in [group for group in groups() if group in values]:
        base = choices.get(group)
        if base is None and isinstance(values[group], dict):
            base = _inherited(group, bases, (*above, path))
        with stands_at(group):
            match values[group]:
                case None | "???":  # hydra's mark for a value still to come: nothing is chosen yet
                    del values[group]
                case str() | int() | float() if not isinstance(values[group], bool):
                    choices[group] = chosen(group, str(values.pop(group)), path.parent)
                case {"kind": kind, **over}:
                    parts[group] = chosen(group, str(kind), path.parent), over
                case {**over} if base is not None:
                    parts[group] = base, over
    for group, (_, inside) in parts.items():
        for name, option in named_parts(inside).items():
            with stands_at(f"{group}.{PARTS}.{name}"):
                chosen(group, option, path.parent)
        choices[group] = str(path)
        del values[group]
    return UserFile(path, bases, choices, parts, values, lines)


def named_parts(values: Mapping[Any, Any]) -> dict[str, str]:
    """The options that a group's named parts choose, by a bare name or by their `kind`; part -> option."""
    parts = values.get(PARTS)
    named: dict[str, str] = {}
    for name, part in parts.items() if isinstance(parts, Mapping) else ():
        if isinstance(part, str):
            named[str(name)] = part
        elif isinstance(part, Mapping) and "kind" in part:
            named[str(name)] = str(part["kind"])
    return named


def _listed(defaults: Any, base: Path) -> tuple[list[Path], dict[str, str]]:
    """What a `defaults` list names: files and presets to build on, and options of groups."""
    bases: list[Path] = []
    choices: dict[str, str] = {}
    for item in defaults if isinstance(defaults, list) else [defaults]:
        match item:
            case "_self_":
                pass
            case str():
                bases.append(preset_path(chosen(PRESET, item, base)))
            case {**single} if len(single) == 1:
                ((name, option),) = single.items()
                group = str(name).removeprefix("override ").lstrip("/")
                if group not in groups():
                    raise UserError(f"defaults: no group {name}{did_you_mean(group, groups())}")
                choices[group] = chosen(group, str(option), base)
            case _:
                raise UserError(f"defaults: write `- GROUP: OPTION`, `- PRESET` or `- FILE.yaml`, not {item}")
    return bases, choices


def _inherited(group: str, bases: Sequence[Path], above: Sequence[Path]) -> str | None:
    """The option of a group that holds unless the file says otherwise: from what it builds on, else from train.yaml."""
    below = (file for base in reversed(bases) for file in read_with_bases(base, above))
    return next((file.choices[group] for file in below if group in file.choices), default_option(group))


def _make_digestible(sweeper: dict[str, Any], base: Path) -> None:
    """The sweeper's parameters become overrides without passing the command line: rewrites them here."""
    if params := sweeper.get("params"):
        arguments = [rewrite(f"{name}={value}", base) for name, value in params.items()]
        sweeper["params"] = dict(argument.split("=", 1) for argument in arguments)
