"""Read a YAML file as plain data with the line of each key; refuse what is too large, no mapping, or holds a secret."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlhf_cli.config.security import secret_error, secret_in
from rlhf_cli.errors import UserError
from rlhf_cli.paths import relative_to_here

_LARGEST: Final = 1_000_000
"""Bytes of a file."""
_MOST_NODES: Final = 100_000
"""Keys and values of a file, each alias written out."""


def parse_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Give the mapping, interpolations untouched, and the line of each dotted key. Both are shared: change neither.

    Raises UserError if the file cannot be read or is refused.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{relative_to_here(path)}: {path.stat().st_size:,} bytes are no config")
        return _parse(path.read_text(encoding="utf-8"), str(relative_to_here(path)))
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{relative_to_here(path)}: cannot be read: {getattr(e, 'strerror', None) or e}") from e


@cache  # every job of a sweep is composed of the same few files
def _parse(text: str, name: str) -> tuple[dict[str, Any], dict[str, int]]:
    for number, line in enumerate(text.split("\n"), start=1):  # comments too: a run's folder keeps a copy of the file
        if kind := secret_in(line):
            raise secret_error(kind, f"{name}:{number}")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode | None):
            raise UserError(f"{name}: must be a mapping of settings, like `steps: 100`")
        if root and _count_nodes(root, {}) > _MOST_NODES:
            raise UserError(f"{name}: its aliases (*name) stand for more than {_MOST_NODES:,} values")
        body: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        return body, dict(_lines(root, "")) if root else {}
    except yaml.MarkedYAMLError as e:
        line = f":{e.problem_mark.line + 1}" if e.problem_mark else ""
        raise UserError(f"{name}{line}: not valid YAML: {e.problem}") from e
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError, ValueError) as e:
        raise UserError(f"{name}: not valid YAML: {str(e).splitlines()[0]}") from e


def _count_nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the nodes with every alias written out, without writing them out (aliases of aliases explode)."""
    if id(node) not in known:
        known[id(node)] = _MOST_NODES  # until it is known: a node inside itself has no end
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        parts = inner if isinstance(node, yaml.CollectionNode) else ()
        known[id(node)] = 1 + sum(_count_nodes(part, known) for part in parts)
    return known[id(node)]


def _lines(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, int]]:
    for key, value in node.value:
        yield f"{prefix}{key.value}", key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            yield from _lines(value, f"{prefix}{key.value}.")
