"""The evaluations of the held-out rows, and the file that holds them. No torch: a page reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from rlhf_cli.evaluation.evaluation import LARGEST
from rlhf_cli.runs.binding import last_change
from rlhf_cli.runs.folder import EVALUATIONS
from rlhf_cli.runs.json_files import Stored, read_lines
from rlhf_cli.supervised.objectives import Objective

PREFIX: Final = "heldout/"
"""Begins the name of each metric of an evaluation."""


@dataclass(frozen=True, slots=True)
class Evaluation(Stored):
    """One evaluation of the held-out rows."""

    step: int
    columns: Mapping[str, list[float]]
    """Figures by name, one value a row, in the order of the rows."""

    def is_sound(self, objective: Objective) -> bool:
        """Whether every column has a value a row, and the objective its figures; only damage on disk takes them."""
        lengths = {*map(len, self.columns.values())}
        if len(lengths) != 1 or 0 in lengths:
            return False
        try:
            objective.intervals(self.columns)
        except (KeyError, ValueError, ArithmeticError):
            return False
        return all(abs(value) < LARGEST for value in chain.from_iterable(self.columns.values()))

    def metrics(self, objective: Objective) -> dict[str, float]:
        """The metrics for metrics.jsonl."""
        return {f"{PREFIX}{name}": value for name, value in objective.held_out_figures(self.columns).items()}


def read_evaluations(folder: Path, objective: Objective) -> dict[int, Evaluation]:
    """Read the sound evaluations of a run that can be compared with the last, by step; other lines are left out."""
    change = last_change(folder)
    found = (Evaluation.parse(line) for line in read_lines(folder / EVALUATIONS))
    return {one.step: one for one in found if one is not None and one.step > change and one.is_sound(objective)}
