"""The result of a run: the held-out figures before and after, with their intervals, and the step that was exported."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rlhf_cli.evaluation.intervals import Interval, estimate
from rlhf_cli.evaluation.pairs import Bin, reliability
from rlhf_cli.runs.folder import RESULT
from rlhf_cli.runs.json_files import StoredAlone
from rlhf_cli.supervised.evaluation import Evaluation
from rlhf_cli.supervised.objectives import Objective
from rlhf_cli.supervised.objectives.bradley_terry import BradleyTerry
from rlhf_cli.supervised.objectives.pairwise import differences


@dataclass(frozen=True, slots=True)
class SupervisedResult(StoredAlone):
    """The figures that a run ends with."""

    file = RESULT

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
    """The bins of a reward model's reliability; empty for other objectives."""
    if not isinstance(objective, BradleyTerry):
        return ()
    return reliability(differences(after.columns), after.columns["share"])
