"""The loop: the examples of a step -> loss -> gradient -> new weights, until the last step, or no more is gained."""

from rlhf_cli.pipeline.loop import stoppable
from rlhf_cli.pipeline.run import due
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.pipeline.step import save
from rlhf_cli.supervised.conclude import evaluate_end
from rlhf_cli.supervised.held_out import evaluate
from rlhf_cli.supervised.learning import learn
from rlhf_cli.supervised.run import SupervisedRun, has_stalled, next_batch
from rlhf_cli.supervised.step import begin, complete, skip


def train(run: SupervisedRun, until: int | None = None) -> None:
    """Train from the last complete step to the end of the run, or to step `until`, and save that step.

    Minimises the objective's mean loss over the rows. Ends early where `patience` evaluations in a row found no lower
    held-out loss. Raises Stopped and UserError with the last complete step saved.
    """
    config, total = run.config, run.config.steps
    with stoppable(run):
        if run.state.step == 0:
            begin(run)
        for step in range(run.state.step, total if until is None else until):
            if has_stalled(run):
                break
            batch = next_batch(run)
            try:
                learned = learn(run, batch)
            except Skip as reason:
                learned = skip(run, reason, batch)
            evaluated = evaluate(run, step + 1) if due(step + 1, config.evaluate.every, total) else None
            complete(run, batch, learned, evaluated)
        if run.state.step < total:
            save(run, needed=True)
        if until is None:
            evaluate_end(run)
