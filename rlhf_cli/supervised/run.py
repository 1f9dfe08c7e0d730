"""Everything that a run of supervised training holds."""

from dataclasses import dataclass

from rlhf_cli.pipeline.run import Training, due
from rlhf_cli.supervised.batches import Example, make_batch
from rlhf_cli.supervised.examples import Examples
from rlhf_cli.supervised.objectives.objective import Batch
from rlhf_cli.supervised.settings import SupervisedConfig


@dataclass(slots=True, kw_only=True)
class SupervisedRun(Training):
    """A run that learns from fixed texts."""

    config: SupervisedConfig
    examples: Examples
    held_out: tuple[Example, ...]


def next_batch(run: SupervisedRun) -> Batch:
    """The examples of the step after the last complete one."""
    config = run.config
    examples = run.examples.of_step(run.state.step, config.prompts_per_step, config.seed)
    return make_batch(examples, run.policy.pad_token, run.policy.device)


def has_stalled(run: SupervisedRun) -> bool:
    """Whether the last `patience` evaluations found no lower held-out loss."""
    patience, best, config = run.config.patience, run.state.best, run.config
    if patience is None or best is None:
        return False
    since = sum(due(step, config.evaluate.every, config.steps) for step in range(best.step + 1, run.state.step + 1))
    return since >= patience
