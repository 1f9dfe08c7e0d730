"""What a part of the lecture is made of, wherever it is shown."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_cli.charts.pictures import Picture


@dataclass(frozen=True, slots=True)
class Scene:
    """One idea: its words, its formula, the file that computes it, and what that file has computed."""

    heading: str
    paragraphs: tuple[str, ...]
    formula: str = ""
    source: str = ""
    pictures: tuple[Picture, ...] = ()
    findings: tuple[str, ...] = ()
    """What the pictures show, in numbers."""
    frames: tuple[tuple[Picture, ...], ...] = ()
    """How it came about, for a place where pictures can move."""


def percent(share: float) -> str:
    """A share of 1 in whole percent."""
    return f"{100 * share:.0f} %"
