"""THE loop: prompts -> rollout -> scores -> advantages -> update, until the last step."""

from __future__ import annotations

from rlhf_cli.pipeline.run import Run, due
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.types import Advantages


def train(run: Run, until: int | None = None) -> None:
    """Train from the run's last complete step to its last one, or to step `until` of it, which is saved then.

    Maximises E[r(x, y)] - beta KL(policy || reference), on prompts x and completions y of the policy. Raises Stopped
    and UserError with the last complete step saved.
    """
    config, total = run.config, run.config.steps
    advantages: Advantages | None  # None: the step was skipped before there were any
    with run.stoppable():
        if run.state.step == 0:
            run.begin()
        for step in range(run.state.step, total if until is None else until):
            temperature = config.temperature.at(step, total)
            beta = run.beta(step)
            try:
                rollout = run.sample(run.next_prompts(), temperature)
                scored = run.score(rollout, beta)
                advantages = config.algorithm.advantages(scored, run.state.baseline)
                learned = run.update(advantages)
            except Skip as reason:
                advantages, learned = run.skip(reason)
            evaluated = run.evaluate(step + 1) if due(step + 1, config.evaluate.every, total) else None
            run.complete(advantages, learned, evaluated)
        if until is not None:
            run.save(needed=True)
