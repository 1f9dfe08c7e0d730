"""One step: the gradient of the loss over a batch, shard by shard, and the update of the weights."""

from rlhf_cli.errors import EXIT_NONFINITE
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.pipeline.state import copy_tensors
from rlhf_cli.pipeline.update import NotFinite, apply, check_finite
from rlhf_cli.ranks.gradient import Gradient, add_gradients, seed_of_shard
from rlhf_cli.seeding import seed_for
from rlhf_cli.supervised.objectives.objective import Batch
from rlhf_cli.supervised.run import SupervisedRun
from rlhf_cli.supervised.shards import Figures, deal_batch, join_figures, learn_shard, passes
from rlhf_cli.types import Tick


def learn(run: SupervisedRun, batch: Batch) -> dict[str, float]:
    """Update the weights by one step, and return its metrics.

    Raises Skip where it leads to numbers that are not finite; the caller undoes it.
    """
    config, step, parameters = run.config, run.state.step, run.policy.parameters()
    lr, seed = config.optimizer.lr_at(step, config.steps), seed_for(config.seed, "update", step, 0)
    with run.work.phase("update", passes(run.shards, batch, run.work.microbatch_size)) as tick:
        run.unfinished.before = copy_tensors(run.policy, run.optimizer)
        try:
            figures = compute_gradient(run, batch, seed, tick)
            applied = apply(parameters, run.optimizer, lr, config.optimizer.max_grad_norm)
            check_finite(batch.rollout, run.engine, parameters)
        except NotFinite as error:
            fix = "resume with a lower learning rate: optimizer.lr=... resume_allow=[optimizer.lr]"
            raise Skip(str(error), fix, EXIT_NONFINITE) from error
    return config.objective.figures(figures) | applied


def compute_gradient(run: SupervisedRun, batch: Batch, seed: int, tick: Tick) -> Figures:
    """Leave the gradient of the batch's mean loss in the weights; returns the figures of its examples.

    The shards' gradients are added in their order, whichever process calculates them. `seed` is that of the dropout.
    """
    objective = run.config.objective
    dealt, whole = deal_batch(batch, objective, run.shards), objective.size(batch)

    def accumulated(size: int) -> list[tuple[Gradient, Figures]]:
        parts = {n: (*part, whole, size, seed_of_shard(seed, n)) for n, part in enumerate(dealt)}
        return run.shards.map(learn_shard, parts, tick)

    found = run.work.fitting(accumulated)
    add_gradients(run.policy, [gradient for gradient, _ in found])
    return join_figures([figures for _, figures in found])
