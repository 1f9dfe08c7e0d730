"""Bound how many interpolations (`${...}`) a config evaluates: each may name two others, thirty levels a billion."""

from __future__ import annotations

from typing import Any, Final

from omegaconf.base import Container

from rlhf_cli.errors import UserError

MOST: Final = 2000
"""Evaluations of one job; our own configs need some thirty."""


class _Count:
    """Evaluations since the last `allow_interpolations`."""

    done = 0
    is_limited = False


def allow_interpolations() -> None:
    """Begin a new job, with as many evaluations as any."""
    _Count.done = 0


def limit_interpolations() -> None:
    """Let omegaconf raise UserError from now on where a job needs more evaluations than MOST."""
    evaluate: Any = Container.resolve_parse_tree
    if _Count.is_limited:
        return

    def counted(self: Container, *arguments: Any, **options: Any) -> Any:
        _Count.done += 1
        if _Count.done > MOST:
            raise UserError(f"more than {MOST:,} interpolations (${{...}}) are evaluated: do they name one another?")
        return evaluate(self, *arguments, **options)

    _Count.is_limited = True
    Container.resolve_parse_tree = counted  # type: ignore[method-assign]  # omegaconf has no limit of its own
