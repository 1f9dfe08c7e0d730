"""Judge the held-out rows: the same every time, which are never trained on, so that evaluations are paired."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import chain

from rlhf_cli.errors import EXIT_NONFINITE, UserError
from rlhf_cli.supervised.batches import make_batch
from rlhf_cli.supervised.evaluation import Evaluation
from rlhf_cli.supervised.learning import add_reading, microbatches
from rlhf_cli.supervised.run import SupervisedRun


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
