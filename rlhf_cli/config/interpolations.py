"""Limit how many interpolations (`${...}`) a config evaluates: if each names two others, 30 levels are a billion."""

from typing import Any, Final

from omegaconf.base import Container

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
    """Let omegaconf raise UserError from now on where a job needs more evaluations than MOST; called once."""
    evaluate: Any = Container.resolve_parse_tree

    def counted(self: Container, *arguments: Any, **options: Any) -> Any:
        _Count.done += 1
        if _Count.done > MOST:
            raise UserError(f"more than {MOST:,} interpolations (${{...}}) are evaluated: do they name one another?")
        return evaluate(self, *arguments, **options)

    Container.resolve_parse_tree = counted  # type: ignore[method-assign]  # omegaconf has no limit of its own
