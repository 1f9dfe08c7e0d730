"""Begin a run, and end each step: complete it, or skip it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from rlhf_cli.errors import EXIT_REWARD, Stopped
from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.functional.mismatch import measure_mismatch
from rlhf_cli.pipeline.held_out import evaluate
from rlhf_cli.pipeline.measures import means_of, measure
from rlhf_cli.pipeline.run import Run, Training, Unfinished, due
from rlhf_cli.pipeline.scoring import group_variances
from rlhf_cli.pipeline.skipping import NoSignalFound, Skip, dump, note_skip
from rlhf_cli.pipeline.state import Best, TrainState, restore_tensors
from rlhf_cli.prompts.headroom import Headroom
from rlhf_cli.runs.no_signal import IN_A_ROW, why_no_signal
from rlhf_cli.schedules import Controlled
from rlhf_cli.types import Advantages

TRUNCATED_ALARM: Final = 0.3
"""Share of truncated completions in the first step that is worth a note."""
FATES: Final = {"keep": "judged as cut", "penalty": "penalised for it", "mask": "nothing is learned from them"}


def begin(run: Run) -> None:
    """Step 0: prove now, not after an hour, that a checkpoint can be written, and evaluate the untouched policy."""
    save(run, needed=True)
    if run.config.evaluate.every:
        evaluated = evaluate(run, 0)
        run.state = replace(run.state, best=Best(0, *evaluated.means()))
        run.logbook.evaluation(evaluated.row())
        run.logbook.metrics(0, evaluated.metrics())
        timings = run.logbook.timings(0, run.work.clock.lap(), 0, run.unfinished.retries)
        run.seconds += timings["time/step_s"]
        run.unfinished = Unfinished()
        run.work.reporter.evaluated(0, evaluated.metrics())
        run.alarms.observe({"step": 0}, evaluated)


def skip(run: Run, reason: Skip) -> tuple[Advantages | None, dict[str, float]]:
    """Undo the step and dump its batch; return the advantages and metrics of a step that changed nothing.

    The first skip in a row saves the last complete step. Raises UserError where more than `max_skipped_steps` are
    skipped in a row.
    """
    take_back(run)
    batch, step = reason.batch, run.state.step + 1
    note_skip(run, reason, f": see {dump(run.folder, step, reason.reason, batch)}" if batch else "")
    if batch:
        return batch, {"skipped": 1.0}
    drawn = {"drawn/rollouts": float(run.unfinished.rollouts)} if run.config.prompts == "dynamic" else {}
    sampled = {"reward/failures": float(reason.failures), "completion/length": run.unfinished.length} | drawn
    return None, {"skipped": 1.0} | sampled


def take_back(run: Training) -> None:
    """Undo the step under way, which is skipped; the first skip in a row saves the last complete step."""
    undo(run)
    if not run.state.skipped:
        save(run, needed=False)


def complete(
    run: Run, advantages: Advantages | None, learned: Mapping[str, float], evaluated: Evaluation | None
) -> None:
    """Advance the state, log the step, report it, and save it where a checkpoint is due.

    `advantages` is None where the step was skipped before there were any.
    """
    before, state = run.state, advance(run, advantages, learned, evaluated)
    metrics = collect_metrics(run, state, advantages, learned)
    if evaluated is not None:
        metrics |= evaluated.metrics()
    if run.queue is not None:  # people are asked about some evaluations, and vote at any time
        asked = evaluated if due(state.step, run.config.evaluate.human, run.config.steps) else None
        metrics |= run.queue.observe(state.step, asked)
    timings = log(run, metrics, advantages, evaluated)
    run.seconds += timings["time/step_s"]
    run.state, run.unfinished = replace(state, logs=run.logbook.marks()), Unfinished()
    report(run, metrics, timings, advantages)
    save_if_due(run, before.best)
    if run.profiler is not None:
        run.profiler.step()
    note_no_signal(run, metrics)
    raise_alarms(run, metrics, evaluated)


def undo(run: Training) -> None:
    """Put back the weights and moments of the last complete step."""
    if run.unfinished.before is not None:
        restore_tensors(run.unfinished.before, run.policy, run.optimizer)
        run.unfinished.before = None


def save(run: Training, *, needed: bool) -> bool:
    """Publish a checkpoint of the last complete step; returns and raises as `Saver.save` does."""
    with run.work.phase("checkpoint", 0):
        return run.saver.save(run.state, run.policy, run.optimizer, run.sync, needed=needed)


def advance(
    run: Run, advantages: Advantages | None, learned: Mapping[str, float], evaluated: Evaluation | None
) -> TrainState:
    """The state after this step, but for `logs`, which `complete` sets.

    A skipped step changes no running mean, and with prompts=dynamic the next one still draws other prompts.
    """
    state, config, step, skipped = run.state, run.config, run.state.step + 1, bool(learned.get("skipped"))
    if config.prompts == "dynamic":
        state = replace(state, rollouts=state.drawn + run.unfinished.rollouts)
    if advantages is not None and not skipped:
        scored = advantages.scored
        if config.reward.normalise:
            state = replace(state, spread=state.spread.observe(scored.scores[scored.learnable].tolist()))
        if isinstance(config.beta, Controlled):
            kl = means_of(scored).mean(scored.distance.sequence_kl)
            state = replace(state, control=config.beta.observe(state.control or config.beta.begin(), kl))
        if config.prompts == "headroom":
            found = group_variances(scored, config.kl)
            state = replace(state, headroom=(state.headroom or Headroom()).observe(found, step))
        gap = measure_gap(advantages, learned)
        state = replace(
            state,
            baseline=state.baseline.observe(scored.returns[scored.learnable]),
            sampler_gap=state.sampler_gap if gap is None else gap,
        )
    if evaluated is not None:
        candidate = Best(step, *evaluated.means())
        if candidate.beats(state.best, evaluated.beta):
            state = replace(state, best=candidate)
    fitting = run.work.microbatch_size
    return replace(
        state,
        step=step,
        skipped=state.skipped + 1 if skipped else 0,
        microbatch_size=fitting if fitting != config.microbatch_size else None,
    )


def collect_metrics(
    run: Run, state: TrainState, advantages: Advantages | None, learned: Mapping[str, float]
) -> dict[str, float]:
    """The metrics of the step itself; `state` is the state after it."""
    metrics = {"skipped": 0.0, **learned}
    if advantages is not None:
        rollouts = run.unfinished.rollouts if run.config.prompts == "dynamic" else 0
        metrics = measure(advantages, errors=run.logs_errors, rollouts=rollouts) | metrics
        if run.config.reward.is_none:  # the reward is not what such a run learns from
            del metrics["reward/same_in_group"]
        gap = measure_gap(advantages, learned)
        if gap is not None:
            metrics["sampler/gap"] = gap
        if run.config.reward.normalise:
            metrics["reward/scale"] = state.spread.deviation
    return metrics


def measure_gap(advantages: Advantages, learned: Mapping[str, float]) -> float | None:
    """Largest difference between sampler and trainer, nats a completion; None where no pass compared them."""
    log_weights = advantages.scored.log_weights
    return learned.get("sampler/gap") if log_weights is None else measure_mismatch(log_weights).gap


def log(
    run: Run, metrics: Mapping[str, float], advantages: Advantages | None, evaluated: Evaluation | None
) -> dict[str, float]:
    """Write the step's lines, and return its timings."""
    step, tokens = run.state.step + 1, 0
    if advantages is not None:
        run.logbook.samples(step, advantages.scored, run.config.log_samples)
        tokens = int(advantages.scored.rollout.lengths.sum())
    if evaluated is not None:
        run.logbook.evaluation(evaluated.row())
    run.logbook.metrics(step, metrics)
    return run.logbook.timings(step, run.work.clock.lap(), tokens, run.unfinished.retries)


def report(run: Run, metrics: Mapping[str, float], timings: Mapping[str, float], advantages: Advantages | None) -> None:
    """Show the step that is complete, with its first completion."""
    step, config, reporter, sample = run.state.step, run.config, run.work.reporter, ("", "")
    if advantages is not None:
        rollout = advantages.scored.rollout
        sample = rollout.batch.prompt_of(0).row.shown, rollout.texts[0]
    reporter.step(step, metrics, timings, sample)
    if run.queue is not None and (waiting := metrics.get("human/waiting")) is not None:
        reporter.pairs_wait(int(waiting), run.queue.command)
    share = metrics.get("completion/truncated", 0.0)
    if step == 1 and share > TRUNCATED_ALARM:
        fate = FATES[config.reward.truncated]
        reporter.note(f"{share:.0%} of the completions were cut at max_new_tokens={config.max_new_tokens}, and {fate}")


def note_no_signal(run: Run, metrics: Mapping[str, float]) -> None:
    """Note the first step that learns nothing from the reward, and IN_A_ROW of them in a row.

    Raises NoSignalFound (exit 4) at any such step under on_no_signal=stop.
    """
    step, config, before = run.state.step, run.config, run.no_signal
    run.no_signal = before.observe(metrics, config.samples_per_prompt)
    if run.no_signal.steps == before.steps:
        return
    masked = config.reward.truncated == "mask"
    why = why_no_signal(metrics, config.reward.clip, masked=masked)
    which = "completion that ended" if masked else "completion"
    what = f"step {step} learned nothing from the reward, as no {which} scored above another of its prompt: {why}"
    if config.on_no_signal == "stop":
        fix = "see the scores by rlhf reward test, or go on with on_no_signal=warn"
        raise NoSignalFound(what, where="on_no_signal", fix=fix, exit_code=EXIT_REWARD)
    if run.no_signal.steps == 1 and not metrics["skipped"]:  # the note of a skipped step says as much
        run.work.reporter.note(what)
    if run.no_signal.in_a_row == IN_A_ROW:
        run.work.reporter.note(f"steps {step - IN_A_ROW + 1} to {step} learned nothing from the reward: {why}")


def raise_alarms(run: Run, metrics: Mapping[str, float], evaluated: Evaluation | None) -> None:
    """Note each alarm that begins, unless a note has said as much.

    Raises Stopped while one lasts under on_alarm=stop; the step is complete.
    """
    step, config, alarms = run.state.step, run.config, run.alarms
    new = alarms.observe({"step": step, **metrics}, evaluated)
    if config.on_alarm == "stop" and alarms.active and step < config.steps:
        raise Stopped(f"{'; '.join(one.line() for one in alarms.active.values())}; go on with on_alarm=warn")
    first: Mapping[str, Any] = next((row for row in alarms.course.start if row["step"] == 1), {})
    cut = first.get("completion/truncated", 0.0) > TRUNCATED_ALARM
    told = {"truncation": cut, "zero-variance groups": run.no_signal.in_a_row >= IN_A_ROW}
    for finding in new:
        if not told.get(finding.rule):
            run.work.reporter.note(f"alarm at {finding.line()}")


def save_if_due(run: Training, best_before: Best | None) -> None:
    """Save the last step, a step that is due, and the best one so far; forget a best step that could not be saved."""
    state, keep, total = run.state, run.config.checkpoint, run.config.steps
    is_best = state.best is not None and state.best.step == state.step
    # while steps are skipped, keep the checkpoint from before them
    is_due = due(state.step, keep.every, total) and not state.skipped
    last = state.step == total
    if last or is_due or (is_best and keep.keep_best):
        saved = save(run, needed=last)
        if is_best and not saved:
            run.state = replace(state, best=best_before)
