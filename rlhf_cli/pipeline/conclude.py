"""The end of a run: the adapter exported, the last evaluation against the first, a few prompts answered twice."""

from __future__ import annotations

from typing import Final

from rlhf_cli.errors import UserError
from rlhf_cli.evaluation.evaluation import Comparison, Evaluation, compare
from rlhf_cli.evaluation.optimum import Optimum, at_least, unknown
from rlhf_cli.pipeline.record import write_peak
from rlhf_cli.pipeline.run import Run, current_beta
from rlhf_cli.runs.reading import read_first_and_last
from rlhf_cli.runs.result import Result, SideBySide
from rlhf_cli.types import PromptBatch

SHOWN: Final = 5


def conclude(run: Run) -> Result:
    """Export the adapter, compare the last evaluation with the first, answer a few prompts twice, and write it down."""
    run.saver.export_adapter(run.state.step)
    first, last = read_first_and_last(run.folder)
    config = run.config
    comparison = _comparison(first, last, run) if first and last else None
    result = Result(
        step=run.state.step,
        beta=last.beta if last else current_beta(run, config.steps - 1),
        prompts=comparison.change["reward"].count if comparison else len(run.held_out),
        samples=config.evaluate.samples,
        comparison=comparison,
        optimum=_optimum(last.optimum, comparison, config.reward.highest) if last and comparison else None,
        texts=_side_by_side(run),
    )
    result.write(run.folder)
    write_peak(run.folder, run.policy.device)
    return result


def _comparison(first: Evaluation, last: Evaluation, run: Run) -> Comparison | None:
    """None, with a note, where too few prompts are in both: no resume would change that, so the run ends without."""
    try:
        return compare(first, last)
    except UserError as error:
        run.work.reporter.note(f"nothing to compare: {error.what}")
        return None


def _optimum(found: Optimum, comparison: Comparison, highest: float) -> Optimum:
    """What the last evaluation found; where it did not sample the reference, the first one is the reference."""
    if found.gain is not None:
        return found
    gain = comparison.change["objective"].mean
    return unknown(found.reason, gain, at_least(gain, comparison.before["reward"].mean, highest))


def _side_by_side(run: Run) -> tuple[SideBySide, ...]:
    prompts = run.held_out[:SHOWN] or run.prompts.first(SHOWN)
    batch = PromptBatch(prompts, 1, tuple(range(len(prompts))))
    with run.work.phase("side by side", 2 * run.config.max_new_tokens) as tick:
        policy = run.engine.sample(batch, run.config.max_new_tokens, 0.0, tick).texts
        reference = run.engine.sample(batch, run.config.max_new_tokens, 0.0, tick, reference=True).texts
    return tuple(SideBySide(p.row.shown, *pair) for p, *pair in zip(prompts, reference, policy, strict=True))
