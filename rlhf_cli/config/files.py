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

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlhf_cli.config.arguments import rewritten
from rlhf_cli.config.keys import did_you_mean, with_absolute_paths
from rlhf_cli.config.options import PRESET, chosen, default_option, groups, preset_path
from rlhf_cli.config.security import TRUST, forbidden, secret_error, secret_in
from rlhf_cli.errors import UserError
from rlhf_cli.paths import shown

PARTS = "parts"  # where a group that is made of several of its own kind has them, by name
_LARGEST = 1_000_000  # bytes
_MOST_NODES = 100_000  # keys and values, each alias written out


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


def place(files: Sequence[UserFile], key: str) -> str:
    """`my-run.yaml:7`, where the key is set, or the group it stands in; the first file alone if none sets it."""
    while key:
        for file in files:
            if key in file.lines:
                return f"{shown(file.path)}:{file.lines[key]}"
        key = key.rpartition(".")[0]
    return str(shown(files[0].path))


def family(path: Path, above: Sequence[Path] = ()) -> list[UserFile]:
    """The file and all that it builds on, what wins first; `above` are the files that build on it.

    Raises UserError as `read` does.
    """
    file = read(path, above)
    return [file, *(one for base in reversed(file.bases) for one in family(base, (*above, path)))]


def read(path: Path, above: Sequence[Path] = ()) -> UserFile:
    """Reads and checks one file.

    Raises UserError if it cannot be read, is no YAML mapping, builds on itself, chooses what there is not, or could run
    code.
    """
    if path in above:
        raise UserError(f"{shown(above[-1])}: builds on {shown(path)}, which builds on it")
    body, lines = _parsed(path)

    @contextmanager
    def stands_at(key: str) -> Iterator[None]:
        try:
            yield
        except UserError as e:
            raise UserError(f"{shown(path)}{f':{lines[key]}' if key in lines else ''}: {e.what}") from None

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
    below = (file for base in reversed(bases) for file in family(base, above))
    return next((file.choices[group] for file in below if group in file.choices), default_option(group))


def _make_digestible(sweeper: dict[str, Any], base: Path) -> None:
    """The sweeper's parameters become overrides without passing the command line: rewrites them here."""
    if params := sweeper.get("params"):
        arguments = [rewritten(f"{name}={value}", base) for name, value in params.items()]
        sweeper["params"] = dict(argument.split("=", 1) for argument in arguments)


def _parsed(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The file's mapping as plain data, interpolations untouched, and the line of each key."""
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{shown(path)}: {path.stat().st_size:,} bytes are no config")
        text = path.read_text(encoding="utf-8")
        # comments too: the file is copied into the run's folder
        for number, line in enumerate(text.split("\n"), start=1):
            if kind := secret_in(line):
                raise secret_error(kind, f"{shown(path)}:{number}")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode | None):
            raise UserError(f"{shown(path)}: must be a mapping of settings, like `steps: 100`")
        if root and _nodes(root, {}) > _MOST_NODES:
            raise UserError(f"{shown(path)}: its aliases (*name) stand for more than {_MOST_NODES:,} values")
        body: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        lines = dict(_lines(root, "")) if root else {}
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{shown(path)}: cannot be read: {getattr(e, 'strerror', None) or e}") from e
    except yaml.MarkedYAMLError as e:
        line = f":{e.problem_mark.line + 1}" if e.problem_mark else ""
        raise UserError(f"{shown(path)}{line}: not valid YAML: {e.problem}") from e
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError, ValueError) as e:
        raise UserError(f"{shown(path)}: not valid YAML: {str(e).splitlines()[0]}") from e
    return body, lines


def _nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes there are with every alias written out, counted without doing so (aliases of aliases explode)."""
    if id(node) not in known:
        known[id(node)] = _MOST_NODES  # until it is known: a node inside itself has no end
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        parts = inner if isinstance(node, yaml.CollectionNode) else ()
        known[id(node)] = 1 + sum(_nodes(part, known) for part in parts)
    return known[id(node)]


def _lines(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, int]]:
    for key, value in node.value:
        yield f"{prefix}{key.value}", key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            yield from _lines(value, f"{prefix}{key.value}.")
