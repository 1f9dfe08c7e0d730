"""Try one step of a run, of which nothing is kept: its samples, its gradient, its time and its memory."""

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rlhf_cli.engine.memory import peak
from rlhf_cli.errors import UserError
from rlhf_cli.functional.mismatch import measure_mismatch
from rlhf_cli.models.memory import MIB
from rlhf_cli.pipeline.assemble import assemble
from rlhf_cli.pipeline.measures import measure
from rlhf_cli.pipeline.rollout import draw
from rlhf_cli.pipeline.run import Run, current_beta
from rlhf_cli.pipeline.scoring import check_agreement, score
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.pipeline.update import update
from rlhf_cli.plural import plural
from rlhf_cli.prompts.rows import Rows
from rlhf_cli.ranks.gathering import gather
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.execution.scorer import Scorer
from rlhf_cli.runs.binding import read_record
from rlhf_cli.runs.no_signal import has_no_signal, why_no_signal
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import Metrics

MANY_CUT: Final = 0.5
"""Share of truncated completions above which a run mostly learns from cut texts."""
MANY_SAME: Final = 0.5
"""Share of groups without two different scores above which half of the work teaches nothing."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The findings of one step. Seconds, MiB, and metrics as metrics.jsonl has them."""

    model: Mapping[str, Any]
    """The model, its device and its engine, as run.json describes them."""
    stops: tuple[str, ...]
    """Every token and every text that ends a completion."""
    prompt: str
    """The first prompt as the policy reads it, special tokens included."""
    completion: str
    score: float
    metrics: Metrics
    gradient_norm: float
    """The mean over the step's updates; 0 where the step would change nothing."""
    seconds: Mapping[str, float]
    """Seconds of each phase of a step, as most of the run's steps will be."""
    step_s: float
    """A step with its update, without an evaluation."""
    total_s: float
    """The whole run, with its evaluations, at this speed."""
    predicted_mib: int
    measured_mib: int
    checkpoints_mib: float
    """The size of all checkpoints that are kept, and one more."""
    reasons: tuple[str, ...]
    """Reasons not to begin the run; none: go."""
    doubts: tuple[str, ...]
    """Findings that are worth a look before it begins."""


def try_step(config: RunConfig, rows: Rows, watch: Reporter, signals: StopSignals) -> Trial:
    """Assemble the run in a temporary folder, with all of its processes, and take one step, of which nothing is kept.

    It is a step as most of the run's will be: sampler and trainer are compared before it, as the run's first step does.
    Raises UserError as a run does.
    """
    config = config.model_copy(update={"profile": False, "sinks": ()})
    with (
        tempfile.TemporaryDirectory(prefix="rlhf-check-") as scratch,
        gather("train", config.processes, Path(scratch), signals.check) as gathered,
        Scorer(config.reward, rows.columns, log=None) as scorer,
    ):
        run = assemble(config, rows, Path(scratch), scorer, watch, signals, None, team=gathered())
        try:
            return _take_step(run, read_record(Path(scratch)))
        except Skip as reason:  # before there was anything to learn from
            raise UserError(reason.reason, where="reward", fix=reason.fix, exit_code=reason.exit_code) from reason
        finally:
            run.close()


def _take_step(run: Run, record: Mapping[str, Any]) -> Trial:
    config, work = run.config, run.work
    work.clock.lap()
    run.state = replace(run.state, sampler_gap=0.0)  # the pass of the rollout is kept where later steps reuse it
    rollout, answer = draw(run, config.temperature.at(0, config.steps))
    drawn = work.clock.lap()
    with work.phase("trainer", run.shards.passes(rollout.batch, work.microbatch_size)) as tick:
        _, log_weights = work.fitting(lambda size: run.shards.recompute(rollout, size, tick))
    check_agreement(run, log_weights)
    run.state = replace(run.state, sampler_gap=measure_mismatch(log_weights).gap)
    work.clock.lap()  # later steps have no such phase, or another one
    scored = score(run, rollout, answer, current_beta(run, 0))
    advantages = config.algorithm.advantages(scored, run.state.baseline)
    norm, skipped = 0.0, ""
    try:
        norm = update(run, advantages)["grad_norm"]
    except Skip as reason:
        skipped = reason.reason
    rest = work.clock.lap()
    seconds = {name: drawn.get(name, 0.0) + rest[name] for name in rest if name not in ("checkpoint", "step")}
    step_s = sum(seconds.values())
    read_s = seconds["rollout"] + seconds["reward"] + seconds["reference"]
    evaluations = 0.0
    if config.evaluate.every:
        completions = config.evaluate.prompts * config.evaluate.samples / len(rollout.batch)
        evaluations = read_s * completions * (math.ceil(config.steps / config.evaluate.every) + 2)
    rollouts = run.unfinished.rollouts if config.prompts == "dynamic" else 0
    compared = replace(advantages, scored=replace(scored, log_weights=log_weights))
    metrics, predicted = measure(compared, rollouts=rollouts), record["memory"]["predicted_mib"]
    return Trial(
        model={**record["model"], **{key: record[key] for key in ("device", "dtype", "engine", "threads")}},
        stops=(*run.policy.tokenizer.convert_ids_to_tokens(list(run.policy.end_tokens)), *run.policy.stop_texts),
        prompt=run.policy.encoder.decode_all(scored.rollout.batch.prompt_of(0)),
        completion=scored.rollout.texts[0],
        score=float(scored.scores[0]),
        metrics=metrics,
        gradient_norm=norm,
        seconds=seconds,
        step_s=step_s,
        total_s=step_s * config.steps + evaluations,
        predicted_mib=predicted,
        measured_mib=peak(run.policy.device) // MIB,
        checkpoints_mib=run.saver.bytes_needed(run.policy) / MIB,
        reasons=tuple(_reasons(config, metrics, skipped)),
        doubts=tuple(_doubts(config, metrics, predicted)),
    )


def _reasons(config: RunConfig, metrics: Metrics, skipped: str) -> Iterator[str]:
    """Reasons not to begin; `skipped` is the reason for which the step would change nothing, or empty."""
    if has_no_signal(metrics, config.samples_per_prompt) and not config.reward.is_none:
        masked = config.reward.truncated == "mask"
        yield f"nothing to learn from: {why_no_signal(metrics, config.reward.clip, masked=masked)}"
    elif skipped:
        yield skipped


def _doubts(config: RunConfig, metrics: Metrics, predicted_mib: int) -> Iterator[str]:
    cut, same = metrics["completion/truncated"], metrics["reward/same_in_group"]
    if cut > MANY_CUT:
        yield f"{cut:.0%} of the completions were cut at max_new_tokens={config.max_new_tokens}"
    if MANY_SAME < same < 1:
        yield f"{same:.0%} of the prompts have completions with one score, and teach nothing"
    if failures := metrics["reward/failures"]:
        yield f"{plural(int(failures), 'completion')} without a score"
    if config.processes > 1 and not config.shard_model:
        total = config.processes * predicted_mib
        yield f"each of {config.processes} processes holds the model: up to {total:,} MiB, where they share a machine"
