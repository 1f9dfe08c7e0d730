"""Held-out evaluation: the same rows every time, which are never trained on, so that evaluations are paired."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from rlhf_cli.errors import EXIT_NONFINITE, UserError
from rlhf_cli.runs.folder import EVALUATIONS
from rlhf_cli.runs.json_files import read_lines
from rlhf_cli.settings import READ_STRICTLY
from rlhf_cli.supervised.batches import make_batch
from rlhf_cli.supervised.learning import add_reading, microbatches
from rlhf_cli.supervised.objectives import Objective
from rlhf_cli.supervised.run import SupervisedRun

PREFIX: Final = "heldout/"
"""Of the metrics of an evaluation."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation of the held-out rows."""

    __pydantic_config__ = READ_STRICTLY

    step: int
    columns: Mapping[str, list[float]]
    """Figures by name, one value a row, in the order of the rows."""

    def row(self) -> dict[str, Any]:
        """Plain data for evaluations.jsonl."""
        return asdict(self)

    def metrics(self, objective: Objective) -> dict[str, float]:
        """The metrics for metrics.jsonl."""
        return {f"{PREFIX}{name}": value for name, value in objective.held_out_figures(self.columns).items()}


_LINE: Final = TypeAdapter(Evaluation)


def evaluate(run: SupervisedRun, step: int) -> Evaluation:
    """Judge every held-out row by the policy; raises UserError (exit 7) where a figure is not finite."""
    objective = run.config.objective
    batch = make_batch(run.held_out, run.policy.pad_token, run.policy.device)

    def judged(size: int) -> dict[str, list[float]]:
        columns = defaultdict[str, list[float]](list)
        for examples in microbatches(batch, size):
            add_reading(columns, objective.judge(batch, examples, run.engine))
            tick()
        return columns

    with run.work.phase("evaluation", run.work.parts(len(batch.rollout.batch))) as tick:
        columns = dict(run.work.fitting(judged))
    if not all(map(math.isfinite, chain.from_iterable(columns.values()))):
        raise UserError(
            f"a held-out loss after step {step} is not finite",
            where="optimizer",
            fix="resume with a lower learning rate: optimizer.lr=... resume_allow=[optimizer.lr]",
            exit_code=EXIT_NONFINITE,
        )
    return Evaluation(step, columns)


def read_evaluations(folder: Path) -> dict[int, Evaluation]:
    """Read the evaluations of a run by step; lines that are none are left out."""
    found = dict[int, Evaluation]()
    for line in read_lines(folder / EVALUATIONS):
        try:
            evaluation = _LINE.validate_json(line)
        except ValueError:
            continue
        found[evaluation.step] = evaluation
    return found
