"""Steps that learn nothing from the reward: the completions of each prompt have the same score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rlhf_cli.functional.returns import ROUNDING
from rlhf_cli.runs.folder import METRICS
from rlhf_cli.runs.json_files import read_lines, read_rows

IN_A_ROW: Final = 10
"""Number of such steps in a row that is worth a second note."""
_SAME: Final = "reward/same_in_group"


@dataclass(frozen=True, slots=True)
class NoSignal:
    """The number of steps that learned nothing from the reward. It follows from metrics.jsonl, also on a resume."""

    steps: int = 0
    in_a_row: int = 0
    """The length of the row that ends at the last step; skipped steps neither count nor end a row, but for
    those that prompts=dynamic left without a group."""

    def observe(self, metrics: Mapping[str, Any], samples: int) -> NoSignal:
        """Add a step by its line of metrics.jsonl; `samples` is the number of completions of a prompt."""
        unable = metrics.get("skipped") and metrics.get("drawn/kept_prompts") != 0  # zero is why the step was skipped
        if unable or _SAME not in metrics:
            return self
        if not has_no_signal(metrics, samples):
            return replace(self, in_a_row=0)
        return NoSignal(self.steps + 1, self.in_a_row + 1)


def read_no_signal(folder: Path, samples: int) -> NoSignal:
    """Count such steps in the metrics of the run's folder; none without metrics."""
    count = NoSignal()
    for row in read_rows(read_lines(folder / METRICS)):
        count = count.observe(row, samples)
    return count


def has_no_signal(metrics: Mapping[str, Any], samples: int) -> bool:
    """Whether no group has two different scores; with one sample a prompt, whether all scores are the same.

    Scores of masked completions do not count.
    """
    return bool(metrics.get(_SAME) == 1.0 or (samples == 1 and _has_one_score(metrics)))


def _has_one_score(metrics: Mapping[str, Any]) -> bool:
    """Whether all scores of a step are the same, up to float32's rounding."""
    error = metrics.get("reward/mean_se")
    return error is not None and error <= ROUNDING * abs(metrics["reward/mean"])


def why_no_signal(metrics: Mapping[str, Any], clip: tuple[float, float] | None, *, masked: bool = False) -> str:
    """The reason for which such a step learns nothing, a clause. `masked`: truncated completions are left out."""
    mean = metrics["reward/mean"]
    if not _has_one_score(metrics):
        which = " that ended" if masked and metrics["completion/truncated"] else ""
        return f"the completions of each prompt{which} have the same score"
    if clip is not None and any(math.isclose(mean, bound, rel_tol=1e-6, abs_tol=1e-9) for bound in clip):
        return f"every score is at the limit {mean:g} of reward.clip"
    return f"every score is {mean:g}"
