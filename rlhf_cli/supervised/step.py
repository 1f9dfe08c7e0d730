"""Begin a run, and end each step: complete it, or skip it."""

from collections.abc import Mapping
from dataclasses import replace

from rlhf_cli.pipeline.run import Unfinished
from rlhf_cli.pipeline.skipping import Skip, note_skip
from rlhf_cli.pipeline.state import Best
from rlhf_cli.pipeline.step import save, save_if_due, take_back
from rlhf_cli.plural import some
from rlhf_cli.supervised.evaluation import PREFIX, Evaluation
from rlhf_cli.supervised.held_out import evaluate
from rlhf_cli.supervised.objectives.objective import Batch
from rlhf_cli.supervised.run import SupervisedRun


def begin(run: SupervisedRun) -> None:
    """Step 0: prove now, not after an hour, that a checkpoint can be written, and evaluate the untouched model."""
    save(run, needed=True)
    if run.config.evaluate.every:
        evaluated = evaluate(run, 0)
        metrics = evaluated.metrics(run.config.objective)
        run.state = replace(run.state, best=Best(0, -metrics[f"{PREFIX}loss"], 0.0))
        run.logbook.evaluation(evaluated.content())
        run.logbook.metrics(0, metrics)
        run.logbook.timings(0, run.work.clock.lap(), 0)
        run.work.reporter.evaluated(0, metrics)


def skip(run: SupervisedRun, reason: Skip, batch: Batch) -> dict[str, float]:
    """Undo the step; return the metrics of a step that changed nothing.

    The first skip in a row saves the last complete step. Raises UserError where more than `max_skipped_steps` are
    skipped in a row.
    """
    take_back(run)
    rows = list(dict.fromkeys(prompt.row.where for prompt in batch.rollout.batch.prompts))
    note_skip(run, reason, f"; its rows: {some(rows)}")
    return {"skipped": 1.0}


def complete(run: SupervisedRun, batch: Batch, learned: Mapping[str, float], evaluated: Evaluation | None) -> None:
    """Advance the state, log the step, report it, and save it where a checkpoint is due."""
    before, step, fitting = run.state, run.state.step + 1, run.work.microbatch_size
    metrics, best = {"skipped": 0.0, **learned}, before.best
    if evaluated is not None:
        figures = evaluated.metrics(run.config.objective)
        candidate = Best(step, -figures[f"{PREFIX}loss"], 0.0)
        best = candidate if candidate.beats(best, 0.0) else best
        metrics |= figures
        run.logbook.evaluation(evaluated.content())
    run.logbook.metrics(step, metrics)
    rollout = batch.rollout
    timings = run.logbook.timings(step, run.work.clock.lap(), int(rollout.lengths.sum()))
    run.state = replace(
        before,
        step=step,
        best=best,
        skipped=before.skipped + 1 if metrics["skipped"] else 0,
        microbatch_size=fitting if fitting != run.config.microbatch_size else None,
        logs=run.logbook.marks(),
    )
    run.unfinished = Unfinished()
    run.work.reporter.step(step, metrics, timings, (rollout.batch.prompt_of(0).row.shown, rollout.texts[0]))
    save_if_due(run, before.best)
