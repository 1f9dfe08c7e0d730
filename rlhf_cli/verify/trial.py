"""Try one step of a run without a change of weights: its samples, its gradient, its time and its memory."""

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from rlhf_cli.engine.memory import peak
from rlhf_cli.functional.mismatch import measure_mismatch
from rlhf_cli.pipeline.assemble import assemble
from rlhf_cli.pipeline.measures import measure
from rlhf_cli.pipeline.rollout import draw
from rlhf_cli.pipeline.run import Run, current_beta, needs_reread, reusing_engine
from rlhf_cli.pipeline.scoring import score
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.pipeline.update import compute_gradient, keeps_shards, split_rollout, update_size
from rlhf_cli.plural import plural
from rlhf_cli.prompts.rows import Rows
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.execution.scorer import Scorer
from rlhf_cli.runs.binding import read_record
from rlhf_cli.runs.no_signal import has_no_signal, why_no_signal
from rlhf_cli.schema import RunConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Advantages, Metrics

MIB: Final = 2**20
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
    """Assemble the run in a temporary folder, sample and score a step, and calculate its gradient once.

    Raises UserError as a run does.
    """
    config = config.model_copy(update={"profile": False, "sinks": ()})
    with tempfile.TemporaryDirectory(prefix="rlhf-check-") as scratch:
        with Scorer(config.reward, rows.columns, log=None) as scorer:
            run = assemble(config, rows, Path(scratch), scorer, watch, signals, None)
            run.work.clock.lap()
            run.state = replace(run.state, sampler_gap=0.0)  # the pass of the rollout is kept, as in later steps
            rollout, scores = draw(run, config.temperature.at(0, config.steps))
            run.state = replace(run.state, sampler_gap=None)  # and the trainer reads it, as in the first step
            scored = score(run, rollout, scores, current_beta(run, 0))
            advantages = config.algorithm.advantages(scored, run.state.baseline)
            norm, updates = _gradient(run, advantages)
            run.close()
        return _describe(run, advantages, norm, updates, read_record(Path(scratch)))


def _gradient(run: Run, advantages: Advantages) -> tuple[float, float]:
    """The norm of the first update's gradient, and how many times its completions are read in a step.

    A single update takes the forward pass from the rollout where later steps do (`reuse_forward`).
    """
    assert advantages.scored.log_weights is not None  # the trainer has read the rollout
    run.state = replace(run.state, sampler_gap=measure_mismatch(advantages.scored.log_weights).gap)
    learnable = advantages.scored.learnable.nonzero().squeeze(1).cpu()
    if not len(learnable):
        return 0.0, 0.0
    plan = [*split_rollout(len(learnable), run.config.algorithm, run.config.seed, 0)]
    rows = learnable[plan[0]]
    own = keeps_shards(run, advantages.scored.rollout.batch)
    reuse = len(plan) == 1 and own and reusing_engine(run) is not None
    size = update_size(run, advantages, run.work.microbatch_size)
    with run.work.phase("update", run.shards.updates(advantages.scored.rollout.batch, size, rows)) as tick:
        compute_gradient(run, advantages, rows, seed_for(run.config.seed, "update", 0, 0), tick, reuse=reuse)
    gradients = [p.grad for p in run.policy.parameters().values() if p.grad is not None]
    norm = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
    run.optimizer.zero_grad()
    return norm, sum(map(len, plan)) / len(rows)


def _describe(run: Run, advantages: Advantages, norm: float, updates: float, record: Mapping[str, Any]) -> Trial:
    config, rollout, scored = run.config, advantages.scored.rollout, advantages.scored
    seconds = {name: value for name, value in run.work.clock.lap().items() if name not in ("checkpoint", "step")}
    seconds["update"] *= updates
    if not needs_reread(run.state):
        del seconds["trainer"]  # the first step alone has that phase
    step_s = sum(seconds.values())
    read_s = seconds["rollout"] + seconds["reward"] + seconds["reference"]
    evaluations = 0.0
    if config.evaluate.every:
        completions = config.evaluate.prompts * config.evaluate.samples / len(rollout.batch)
        evaluations = read_s * completions * (math.ceil(config.steps / config.evaluate.every) + 2)
    rollouts = run.unfinished.rollouts if config.prompts == "dynamic" else 0
    weights = sum(p.numel() * p.element_size() for p in run.policy.parameters().values())
    metrics, predicted = measure(advantages, rollouts=rollouts), record["memory"]["predicted_mib"]
    return Trial(
        model={**record["model"], **{key: record[key] for key in ("device", "dtype", "engine", "threads")}},
        stops=(*run.policy.tokenizer.convert_ids_to_tokens(list(run.policy.end_tokens)), *run.policy.stop_texts),
        prompt=run.policy.encoder.decode_all(rollout.batch.prompt_of(0)),
        completion=rollout.texts[0],
        score=float(scored.scores[0]),
        metrics=metrics,
        gradient_norm=norm,
        seconds=seconds,
        step_s=step_s,
        total_s=step_s * config.steps + evaluations,
        predicted_mib=predicted,
        measured_mib=peak(run.policy.device) // MIB,
        checkpoints_mib=3 * weights * (config.checkpoint.keep + 1 + config.checkpoint.keep_best) / MIB,
        reasons=tuple(_reasons(config, metrics, norm)),
        doubts=tuple(_doubts(config, metrics, predicted)),
    )


def _reasons(config: RunConfig, metrics: Metrics, norm: float) -> Iterator[str]:
    if has_no_signal(metrics, config.samples_per_prompt) and not config.reward.is_none:
        masked = config.reward.truncated == "mask"
        yield f"nothing to learn from: {why_no_signal(metrics, config.reward.clip, masked=masked)}"
    if not math.isfinite(norm):
        yield "the gradient is not finite"


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
