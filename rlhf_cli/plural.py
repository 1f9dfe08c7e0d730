"""A number with its noun, 1 prompt, 2 prompts; and a few of many names."""

from collections.abc import Sequence


def plural(number: int, noun: str) -> str:
    """The number and the noun, with an s unless there is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def some(names: Sequence[str]) -> str:
    """The first three names, and the number of the others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
