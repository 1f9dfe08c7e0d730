"""THE loop: prompts -> rollout -> scores -> advantages -> update, until the last step."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from rlhf_cli.errors import EXIT_DISK, Stopped, UserError
from rlhf_cli.pipeline.conclude import ends_early, evaluate_end
from rlhf_cli.pipeline.held_out import evaluate
from rlhf_cli.pipeline.rollout import draw
from rlhf_cli.pipeline.run import Run, Training, current_beta, due
from rlhf_cli.pipeline.saving import SaveFailed
from rlhf_cli.pipeline.scoring import score
from rlhf_cli.pipeline.skipping import NoSignalFound, Skip
from rlhf_cli.pipeline.step import begin, complete, save, skip, undo
from rlhf_cli.pipeline.update import update
from rlhf_cli.runs.kind import verb_of
from rlhf_cli.types import Advantages


def train(run: Run, until: int | None = None) -> None:
    """Train from the last complete step to the end of the run, or to step `until`, and save that step.

    Maximises E[r(x, y)] - beta KL(policy || reference), on prompts x and completions y of the policy. Raises Stopped
    and UserError with the last complete step saved.
    """
    config, total = run.config, run.config.steps
    advantages: Advantages | None  # None: the step was skipped before there were any
    with stoppable(run):
        if run.state.step == 0:
            begin(run)
        if run.queue is not None:
            run.work.reporter.pairs_wait(run.queue.waiting(), run.queue.command)
        for step in range(run.state.step, total if until is None else until):
            if until is None and ends_early(run):
                break
            temperature, beta = config.temperature.at(step, total), current_beta(run, step)
            try:
                rollout, scores = draw(run, temperature)
                scored = score(run, rollout, scores, beta)
                advantages = config.algorithm.advantages(scored, run.state.baseline)
                learned = update(run, advantages)
            except Skip as reason:
                advantages, learned = skip(run, reason)
            evaluated = evaluate(run, step + 1) if due(step + 1, config.evaluate.every, total) else None
            complete(run, advantages, learned, evaluated)
        if until is None:
            evaluate_end(run)
        else:
            save(run, needed=True)


@contextmanager
def stoppable(run: Training) -> Iterator[None]:
    """Save the last complete step before a stop or a user's mistake ends the run."""
    with run.work.signals.polled():
        try:
            yield
        except SaveFailed:
            raise
        except (Stopped, UserError, BrokenPipeError) as reason:
            # a full disk would refuse once more; while steps are skipped, keep the checkpoint from before them
            if isinstance(reason, NoSignalFound) or not (
                isinstance(reason, UserError) and (reason.exit_code == EXIT_DISK or run.state.skipped)
            ):
                undo(run)
                save(run, needed=True)
                verb = verb_of(run.config.model_dump(mode="json"))
                command = f"rlhf {verb} resume={shlex.quote(str(run.folder))}"
                run.work.reporter.note(f"step {run.state.step} is saved; continue it by: {command}")
            raise
        finally:
            run.close()
