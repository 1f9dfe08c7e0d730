"""A scene of the lecture, as data."""

from dataclasses import dataclass

from rlhf_cli.charts.pictures import Picture


@dataclass(frozen=True, slots=True)
class Scene:
    """One idea: its words, its formula, the file that computes it, and pictures of the results."""

    heading: str
    paragraphs: tuple[str, ...]
    formula: str = ""
    source: str = ""
    pictures: tuple[Picture, ...] = ()
    findings: tuple[str, ...] = ()
    """The results in numbers."""
    frames: tuple[tuple[Picture, ...], ...] = ()
    """Earlier states of the pictures, for a live terminal."""


def percent(share: float) -> str:
    """A share of 1 in whole percent."""
    return f"{100 * share:.0f} %"
