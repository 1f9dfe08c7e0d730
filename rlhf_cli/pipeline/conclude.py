"""End a run, perhaps early: export the adapter, compare the last evaluation with the first, answer prompts twice."""

from typing import Final

from rlhf_cli.errors import UserError
from rlhf_cli.evaluation.evaluation import Comparison, Evaluation, compare
from rlhf_cli.evaluation.optimum import Optimum, at_least, unknown
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.pipeline.held_out import evaluate
from rlhf_cli.pipeline.record import write_end
from rlhf_cli.pipeline.run import Run, current_beta
from rlhf_cli.pipeline.step import save
from rlhf_cli.runs.binding import bind, read_record
from rlhf_cli.runs.folder import EVALUATIONS, RESULT
from rlhf_cli.runs.reading import read_evaluations, read_first_and_last, why_not_compared
from rlhf_cli.runs.result import Result, SideBySide
from rlhf_cli.types import PromptBatch

SIDE_BY_SIDE: Final = 5
"""Prompts that policy and reference both answer."""


def ends_early(run: Run) -> bool:
    """Whether a rule of `stop` ends the run here; then save it."""
    step, config, course = run.state.step, run.config, run.alarms.course
    run.stopped = config.stop.why(course, run.seconds, lambda: read_evaluations(run.folder)) if step else None
    if run.stopped is None:
        return False
    save(run, needed=True)
    run.work.reporter.note(f"ended after step {step} of {config.steps} by {run.stopped.key}: {run.stopped.reason}")
    return True


def evaluate_end(run: Run) -> None:
    """Evaluate the policy of the last step where none was due: a rule ended the run, or a resume lowered its steps.

    This evaluation has no line in metrics.jsonl, and a run that goes on from here does without it.
    """
    step, last = run.state.step, run.alarms.course.last
    if run.config.evaluate.every and (last is None or last.step != step):
        run.logbook.evaluation(evaluate(run, step).row())


def conclude(run: Run) -> Result:
    """Export the adapter, and write result.json: the change since the first evaluation, and some completions."""
    run.saver.export_adapter(run.state.step)
    first, last = read_first_and_last(run.folder)
    config = run.config
    if config.evaluate.every and not (first and last):
        run.work.reporter.note(f"nothing to compare: {why_not_compared(read_record(run.folder))}")
    comparison = _comparison(first, last, run) if first and last else None
    result = Result(
        step=run.state.step,
        beta=last.beta if last else current_beta(run, config.steps - 1),
        prompts=comparison.change["reward"].count if comparison else len(run.held_out),
        samples=config.evaluate.samples,
        comparison=comparison,
        optimum=_optimum(last.optimum, comparison, config.reward.highest) if last and comparison else None,
        texts=_side_by_side(run),
        stopped=run.stopped,
    )
    result.write(run.folder)
    bind(run.folder, RESULT, EVALUATIONS)
    write_end(run.folder, run.policy.device, [prompt.row.shown for prompt in run.held_out])
    return result


def _comparison(first: Evaluation, last: Evaluation, run: Run) -> Comparison | None:
    """Compare both evaluations; None, with a note, where too few prompts are in both: no resume could change that."""
    try:
        return compare(first, last)
    except UserError as error:
        run.work.reporter.note(f"nothing to compare: {error.what}")
        return None


def _optimum(optimum: Optimum, comparison: Comparison, highest: float) -> Optimum:
    """The last evaluation's optimum; if that did not sample the reference, its gain is over the first evaluation."""
    if optimum.gain is not None:
        return optimum
    gain = comparison.change["objective"].mean
    return unknown(optimum.reason, gain, at_least(gain, comparison.before["objective"].mean, highest))


def _side_by_side(run: Run) -> tuple[SideBySide, ...]:
    prompts = run.held_out[:SIDE_BY_SIDE] or run.prompts.first(SIDE_BY_SIDE)
    batch = PromptBatch(prompts, 1, tuple(range(len(prompts))))
    with run.work.phase("side by side", 2 * run.config.max_new_tokens) as tick:
        sampling = Sampling(run.config.max_new_tokens, 0.0)
        policy = run.shards.here(lambda: run.engine.sample(batch, sampling, tick)).texts
        reference = run.shards.here(lambda: run.engine.sample(batch, sampling, tick, reference=True)).texts
    return tuple(SideBySide(p.row.shown, *pair) for p, *pair in zip(prompts, reference, policy, strict=True))
