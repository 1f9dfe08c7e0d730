"""Judge the held-out rows. They are never trained on, and the same every time, so that evaluations are paired."""

import math
from itertools import chain

from rlhf_cli.errors import EXIT_NONFINITE, UserError
from rlhf_cli.supervised.batches import make_batch
from rlhf_cli.supervised.evaluation import Evaluation
from rlhf_cli.supervised.run import SupervisedRun
from rlhf_cli.supervised.shards import Figures, deal_batch, join_figures, judge_shard, passes


def evaluate(run: SupervisedRun, step: int) -> Evaluation:
    """Judge every held-out row by the policy; raises UserError (exit 7) where a figure is not finite."""
    batch = make_batch(run.held_out, run.policy.pad_token, run.policy.device)
    dealt = deal_batch(batch, run.config.objective, run.shards)

    def judged(size: int) -> list[Figures]:
        return run.shards.map(judge_shard, {number: (*part, size) for number, part in enumerate(dealt)}, tick)

    with run.work.phase("evaluation", passes(run.shards, batch, run.work.microbatch_size)) as tick:
        columns = join_figures(run.work.fitting(judged))
    if not all(map(math.isfinite, chain.from_iterable(columns.values()))):
        where, fix = "optimizer", "resume with a lower learning rate: optimizer.lr=... resume_allow=[optimizer.lr]"
        if step == 0:
            where, fix = "model", "take another one, or dtype=float32: its probabilities are not finite"
        what = f"a held-out loss after step {step} is not finite"
        raise UserError(what, where=where, fix=fix, exit_code=EXIT_NONFINITE)
    return Evaluation(step, columns)
