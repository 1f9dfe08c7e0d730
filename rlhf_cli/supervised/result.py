"""The result of a run: the held-out figures before and after, with their intervals, and the step that was exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from rlhf_cli.evaluation.intervals import estimate
from rlhf_cli.evaluation.pairs import reliability
from rlhf_cli.runs.folder import RESULT
from rlhf_cli.runs.json_files import read_json, write_json
from rlhf_cli.settings import READ_STRICTLY
from rlhf_cli.supervised.evaluation import Evaluation
from rlhf_cli.supervised.objectives import Objective
from rlhf_cli.supervised.objectives.bradley_terry import BradleyTerry
from rlhf_cli.supervised.objectives.objective import Interval
from rlhf_cli.supervised.objectives.pairwise import differences


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs about which the scores are about equally sure, for a curve of reliability."""

    count: int
    confidence: float
    """Mean predicted probability of the side with the higher score."""
    right: Interval
    """Mean share of the votes for that side."""


@dataclass(frozen=True, slots=True)
class SupervisedResult:
    """The figures that a run ends with."""

    __pydantic_config__ = READ_STRICTLY

    task: Literal["sft", "dpo", "bradley_terry"]
    step: int
    """The last step."""
    exported: int
    """The step of the exported adapter."""
    best: int | None
    """The step with the lowest held-out loss; None without evaluations."""
    stalled: int | None
    """The patience that the run ended by, before its last step; None where it took all its steps."""
    held_out: int
    """Held-out rows."""
    before: Mapping[str, Interval]
    """Figures of the untouched model, with intervals over rows; empty without evaluations, as are the next two."""
    after: Mapping[str, Interval]
    """The same of the exported step."""
    change: Mapping[str, Interval]
    """From before to after, paired by row."""
    reliability: tuple[Bin, ...]
    """The bins of a reward model's scores; empty for others."""

    def content(self) -> dict[str, Any]:
        """Plain data, as result.json holds it; numbers may not be finite."""
        return asdict(self)

    def write(self, folder: Path) -> None:
        """Write it as result.json; raises OSError."""
        write_json(folder / RESULT, self.content())

    @staticmethod
    def read(folder: Path) -> SupervisedResult | None:
        """Read the result of a finished run; None where it is missing or foreign."""
        return read_json(_RESULT, folder / RESULT)


_RESULT: Final = TypeAdapter(SupervisedResult)


def changes(objective: Objective, before: Evaluation, after: Evaluation) -> dict[str, Interval]:
    """The paired change of each figure, with its interval over rows."""
    old, new = objective.values(before.columns), objective.values(after.columns)
    pairs = {name: list(zip(old[name], new[name], strict=True)) for name in old}
    return {
        name: Interval.of(estimate([now - then for then, now in values]))
        for name, values in pairs.items()
        if len(values) > 1
    }


def reliability_of(objective: Objective, after: Evaluation) -> tuple[Bin, ...]:
    """The filled bins of a reward model's reliability."""
    if not isinstance(objective, BradleyTerry):
        return ()
    found = reliability(differences(after.columns), after.columns["share"])
    return tuple(Bin(one.count, one.confidence, Interval.of(one.right)) for one in found if one.count)
