"""Read a YAML file as plain data with the line of each key.

A file is refused if it is too large, no mapping, or holds a secret. Only `true`, `false`, `null` and decimal numbers
are more than text: YAML 1.1 would read `yes` as true, 010 as 8 and 12:30 as 750; here they stay texts.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlhf_cli.config.security import secret_error
from rlhf_cli.config.typed import refuse_two_characters, refuse_unclear
from rlhf_cli.credentials import kind_of_secret
from rlhf_cli.data.files import find_odd_line
from rlhf_cli.errors import UserError, first_line
from rlhf_cli.json_text import why_unreadable
from rlhf_cli.paths import relative_to_here, why_irregular

_LARGEST: Final = 1_000_000
"""The largest file, in bytes."""
_MOST_NODES: Final = 100_000
"""The most keys and values of a file, with each alias written out."""


def parse_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the mapping, interpolations untouched, and the line of each dotted key. Both are cached: change neither.

    Raises UserError if the file cannot be read or is refused.
    """
    try:
        if why := why_irregular(path):
            raise UserError(f"{relative_to_here(path)}: cannot be read: {why}")
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{relative_to_here(path)}: {path.stat().st_size:,} bytes are no config")
        return _parse(path.read_text(encoding="utf-8"), str(relative_to_here(path)))
    except UnicodeDecodeError as e:
        place = f"{relative_to_here(path)}:{find_odd_line(path)}"
        raise UserError(f"{place}: not UTF-8 text", fix="save it as UTF-8") from e
    except OSError as e:
        raise UserError(f"{relative_to_here(path)}: cannot be read: {e.strerror or e}") from e


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Reads every unclear value as text, and refuses a key that stands twice in a mapping.

    Of YAML's types it knows those of JSON alone: no setting takes a date, a set or bytes.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError) as e:  # PyYAML has no error for a tag that does not fit
            kind, text = node.tag.rpartition(":")[2], str(node.value)
            why = f": {why_unreadable(e, text)}" if isinstance(e, ValueError) else ""
            raise yaml.constructor.ConstructorError(None, None, f"the value is no {kind}{why}", node.start_mark) from e

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if key.value in names[:place]:
                mark = key.start_mark
                raise yaml.constructor.ConstructorError(None, None, f"found duplicate key {key.value}", mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


_INT: Final = r"[-+]?(0|[1-9](_?[0-9])*)"
_FLOAT: Final = rf"({_INT}(\.[0-9]*)?|[-+]?\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
for _tag, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^({_pattern})$"), list(_first))


@cache  # every job of a sweep is composed of the same few files
def _parse(text: str, name: str) -> tuple[dict[str, Any], dict[str, int]]:
    for number, line in enumerate(text.split("\n"), start=1):  # comments too: a run's folder keeps a copy of the file
        if kind := kind_of_secret(line):
            raise secret_error(kind, f"{name}:{number}")
    try:
        root = yaml.compose(text, Loader=_Loader)
        if not isinstance(root, yaml.MappingNode | None):
            raise UserError(f"{name}: must be a mapping of settings, like `steps: 100`")
        if root and _count_nodes(root, {}) > _MOST_NODES:
            raise UserError(f"{name}: its aliases (*name) stand for more than {_MOST_NODES:,} values")
        if root is None:
            return {}, {}
        loader = _Loader("")
        for key, scalar in _scalars(root, ""):
            _refuse_misread(key, scalar, loader, name)
        body: Any = OmegaConf.to_container(OmegaConf.create(loader.construct_document(root)), resolve=False)
        return body, dict(_lines(root, ""))
    except yaml.MarkedYAMLError as e:
        what, mark, fix = _explain(e)
        raise UserError(f"{name}{f':{mark.line + 1}' if mark else ''}: not valid YAML: {what}", fix=fix) from e
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError, ValueError) as e:
        raise UserError(f"{name}: not valid YAML: {first_line(e)}") from e


def _explain(error: yaml.MarkedYAMLError) -> tuple[str, Any, str]:
    """The mistake in plain words, the mark of its line, and the fix, for the mistakes that people make most."""
    problem, context, mark = str(error.problem), str(error.context), error.problem_mark
    if "'\\t'" in problem:
        return "a tab", mark, "indent by spaces"
    if problem == "mapping values are not allowed here":
        return "a key where none can stand", mark, "indent it as its neighbours, and put a text with a colon in quotes"
    if "simple key" in context:  # noticed only at the next line
        return "a line that is no setting", error.context_mark, "write `key: value`, with a space behind the colon"
    if "quoted scalar" in context:
        return "a quote without its end", error.context_mark, "close it"
    if "flow" in context:
        return f"a bracket without its end: {problem}", error.context_mark, "close it"
    if problem == "but found another document":
        return "a second document, behind ---", mark, "leave one of them"
    fixes = {"duplicate": "leave one of them", "key that is no text": "put it in quotes"}
    return problem, mark, next((fix for part, fix in fixes.items() if part in problem), "")


def _refuse_misread(key: str, scalar: yaml.ScalarNode, loader: _Loader, name: str) -> None:
    """Raise UserError for a value that may be meant as another one."""
    try:
        if scalar.style is None and not scalar.tag.endswith(":str"):
            refuse_unclear(key, loader.construct_object(scalar), scalar.value)
        elif scalar.style in (None, "'"):
            refuse_two_characters(key, scalar.value)
    except UserError as e:
        raise UserError(f"{name}:{scalar.start_mark.line + 1}: {e.what}", fix=e.fix) from None


def _scalars(node: yaml.Node, key: str) -> Iterator[tuple[str, yaml.ScalarNode]]:
    """Yield every value that is neither list nor mapping, with its dotted key; a list's entries have the list's key."""
    if isinstance(node, yaml.ScalarNode):
        yield key, node
    elif isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.tag.rpartition(":")[2] not in ("str", "merge"):
                raise yaml.constructor.ConstructorError(None, None, "found a key that is no text", name.start_mark)
            yield from _scalars(value, f"{key}.{name.value}" if key else name.value)
    else:
        for value in node.value:
            yield from _scalars(value, key)


def _count_nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the nodes with every alias written out, without writing them out (aliases of aliases explode)."""
    if id(node) not in known:
        known[id(node)] = _MOST_NODES  # meanwhile: a node that contains itself has no end
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        parts = inner if isinstance(node, yaml.CollectionNode) else ()
        known[id(node)] = 1 + sum(_count_nodes(part, known) for part in parts)
    return known[id(node)]


def _lines(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, int]]:
    for key, value in node.value:
        yield f"{prefix}{key.value}", key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            yield from _lines(value, f"{prefix}{key.value}.")
