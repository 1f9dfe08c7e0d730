"""Limit how many interpolations (`${...}`) a config evaluates: if each names two others, 30 levels are a billion.

Each text of them is parsed once: hydra asks for the same thirty in every job of a sweep, 0.03 s a job. And hydra makes
the map that they are looked up in for each file that it composes, though ours have none in their list of defaults.
A process calls what changes a library here once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import hydra._internal.defaults_list
import omegaconf._utils
import omegaconf.base
from omegaconf.base import Container
from omegaconf.grammar_parser import parse

from rlhf_cli.errors import UserError

MOST: Final = 2000
"""The most evaluations of one job; our own configs need some thirty."""


class _Count:
    """The evaluations since the last `allow_interpolations`."""

    done = 0


def allow_interpolations() -> None:
    """Begin a new job: count its evaluations from zero."""
    _Count.done = 0


def limit_interpolations() -> None:
    """Let omegaconf raise UserError from now on where a job needs more evaluations than MOST."""
    evaluate: Any = Container.resolve_parse_tree

    def counted(self: Container, *arguments: Any, **options: Any) -> Any:
        _Count.done += 1
        if _Count.done > MOST:
            raise UserError(f"more than {MOST:,} interpolations (${{...}}) are evaluated: do they name one another?")
        return evaluate(self, *arguments, **options)

    Container.resolve_parse_tree = counted  # type: ignore[method-assign]  # omegaconf has no limit of its own


def parse_each_once() -> None:
    """Let omegaconf keep the syntax tree of a text with interpolations; whoever evaluates one only reads it."""
    once = lru_cache(maxsize=1024)(parse)
    users: list[Any] = [omegaconf.base, omegaconf._utils]
    for user in users:
        user.parse = once


def map_choices_where_asked() -> None:
    """Let hydra make the map of the choices only for a list of defaults with an interpolation, which looks there."""
    module: Any = hydra._internal.defaults_list
    make = module._create_interpolation_map

    def make_where_asked(overrides: Any, defaults: Any, self_added: bool) -> Any:
        is_asked = any(default.is_interpolation() for default in defaults)
        return make(overrides, defaults, self_added) if is_asked else None

    module._create_interpolation_map = make_where_asked
