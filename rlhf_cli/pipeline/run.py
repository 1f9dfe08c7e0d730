"""Run: everything one run holds, with the stages of a step bound to it."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import torch

from rlhf_cli import checkpoint
from rlhf_cli.data.order import rows_of_step
from rlhf_cli.engine import Engine
from rlhf_cli.errors import EXIT_DISK, EXIT_NONFINITE, Stopped, UserError
from rlhf_cli.functional.mismatch import STOP_BELOW, TOLERANCE, WARN_BELOW, mismatch
from rlhf_cli.functional.truncation import Truncation
from rlhf_cli.metrics import JsonlLog, Mark, TensorBoard
from rlhf_cli.models.policy import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Policy
from rlhf_cli.pipeline import held_out, scoring, update
from rlhf_cli.pipeline.evaluation import Evaluation
from rlhf_cli.pipeline.measures import measure
from rlhf_cli.pipeline.reporter import Reporter
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.pipeline.state import Tensors, TrainState, copy_tensors, put_back, save
from rlhf_cli.rewards.judge import Judge, Judged
from rlhf_cli.schedules import Controlled
from rlhf_cli.schedules.control import Control
from rlhf_cli.schema import RunConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Advantages, Prompt, PromptBatch, Rollout, Scored

LOGS: Final = ("metrics", "timings", "samples", "evaluations")
TRUNCATED_ALARM: Final = 0.3


@dataclass(slots=True)
class Run:
    """One run in the making. `state` changes once a step, when the step is complete."""

    config: RunConfig
    folder: Path
    policy: Policy
    engine: Engine
    optimizer: torch.optim.Optimizer
    prompts: tuple[Prompt, ...]
    held_out: tuple[Prompt, ...]
    microbatch_size: int
    judge: Judge
    reporter: Reporter
    logs: dict[str, JsonlLog]
    tensorboard: TensorBoard
    state: TrainState = field(default_factory=TrainState)
    signals: StopSignals = field(default_factory=StopSignals)
    _clock: dict[str, float] = field(default_factory=dict)
    _undo: Tensors | None = None
    _failed_at: int | None = None

    @property
    def truncation(self) -> Truncation:
        """What rollouts are sampled from."""
        return Truncation(self.config.top_k, self.config.top_p, self.config.min_p)

    # The stages of a step, in order.

    def next_prompts(self) -> PromptBatch:
        """The prompts of the step after the last complete one, and the streams of their samples."""
        config, step = self.config, self.state.step
        rows = rows_of_step(step, len(self.prompts), config.prompts_per_step, config.seed)
        seeds = tuple(
            seed_for(config.seed, "rollout", step, prompt, sample)
            for prompt in range(len(rows))
            for sample in range(config.samples_per_prompt)
        )
        return PromptBatch(tuple(self.prompts[row] for row in rows), config.samples_per_prompt, seeds)

    def sample(self, batch: PromptBatch, temperature: float) -> Rollout:
        """The policy writes a completion for every sample of the batch."""
        limit = self.config.max_new_tokens
        with self.phase("rollout", limit) as tick:
            return self.engine.sample(batch, limit, temperature, tick, self.truncation)

    def beta(self, step: int) -> float:
        """The weight of the KL at `step`: of its schedule, or the present one of the controller that follows the KL."""
        schedule = self.config.beta
        if isinstance(schedule, Controlled):
            return (self.state.control or schedule.begin()).beta
        return schedule.at(step, self.config.steps)

    def score(self, rollout: Rollout, beta: float) -> Scored:
        """The reward judges the completions, the trainer and the reference read them."""
        config, ticks = self.config, -(-len(rollout.batch) // self.microbatch_size)
        with self.phase("reward", 0):
            judged = self._judged(rollout, seed_for(config.seed, "reward", self.state.step), self.state.step + 1)
            rollout, scores = scoring.with_scores(rollout, judged)
        if self.state.sampler_gap is None or self.state.sampler_gap > TOLERANCE:
            with self.phase("trainer", ticks) as tick:
                rollout = scoring.reread(rollout, self.engine, self.microbatch_size, tick)
            self._trust(rollout)
        with self.phase("reference", ticks) as tick:
            scored = scoring.against(
                rollout,
                scores,
                self.engine,
                beta,
                self.microbatch_size,
                tick,
                kl=config.kl,
                measure_exact=due(self.state.step + 1, config.exact_kl_every, config.steps),
                needs_value=config.algorithm.needs_value,
            )
        return replace(scored, failures=judged.failures, retries=judged.retries)

    def update(self, advantages: Advantages) -> dict[str, float]:
        """The gradient steps that this rollout is good for: one, or several for the clipped algorithms."""
        config, step = self.config, self.state.step
        plan = list(update.minibatches(len(advantages.advantages), config.algorithm, config.seed, step))
        lr, updates = config.optimizer.lr_at(step, config.steps), []
        with self.phase("update", sum(-(-len(rows) // self.microbatch_size) for rows in plan)) as tick:
            self._undo = copy_tensors(self.policy, self.optimizer)
            for rows in plan:
                learned = update.accumulate(
                    advantages,
                    rows,
                    config.algorithm,
                    self.engine,
                    kl=config.kl,
                    max_new_tokens=config.max_new_tokens,
                    microbatch_size=self.microbatch_size,
                    tick=tick,
                )
                taken = update.apply(self.policy.parameters(), self.optimizer, lr, config.optimizer.max_grad_norm)
                updates.append(learned | taken)
        return update.summary(updates)

    def evaluate(self, step: int) -> Evaluation:
        """Held-out prompts, fixed decoding, the run's final beta."""
        config, per_batch = self.config, self.config.prompts_per_step
        beta, temperature = self.beta(config.steps - 1), config.temperature.at(config.steps - 1, config.steps)
        undefined = held_out.undefined(beta, temperature, self.truncation.active, config.evaluate.samples)
        batches = -(-len(self.held_out) // per_batch)
        passes = -(-per_batch * config.evaluate.samples // self.microbatch_size)
        writers = 2 if step and not undefined else 1  # the reference writes and is read as well
        with self.phase("evaluation", writers * batches * (config.max_new_tokens + passes)) as tick:
            return held_out.evaluate(
                self.held_out,
                self.engine,
                judge=lambda rollout, start: self._judged(
                    rollout, seed_for(config.seed, "reward/held_out", start), step, ", held-out"
                ),
                highest=self.judge.highest,
                reference=self.policy.reference,
                step=step,
                beta=beta,
                undefined=undefined,
                seed=config.seed,
                samples=config.evaluate.samples,
                max_new_tokens=config.max_new_tokens,
                prompts_at_once=per_batch,
                microbatch_size=self.microbatch_size,
                tick=tick,
            )

    # What becomes of a step.

    def begin(self) -> None:
        """Step 0: prove now, not after an hour, that a checkpoint can be written, and evaluate the untouched policy."""
        self.save()
        if self.config.evaluate.every:
            evaluated = self.evaluate(0)
            self._log_evaluation(evaluated, {})
            self._log_timings(0, 0)
            self.reporter.evaluated(0, evaluated.metrics())
            self.reporter.optimum(0, evaluated.optimum)

    def complete(self, advantages: Advantages, learned: dict[str, float], evaluated: Evaluation | None) -> None:
        """Log the step, make it the state to go back to, and save it when a checkpoint is due."""
        scored, rollout = advantages.scored, advantages.scored.rollout
        step, tokens = self.state.step + 1, int(rollout.lengths.sum())
        baseline = self.state.baseline.observe(scored.rewards.sum(1))
        metrics = measure(advantages) | learned
        if rollout.log_weights.any():
            metrics["sampler/gap"] = mismatch(rollout.log_weights).gap
        control = self._control(float(scored.sequence_kl.double().mean()))
        if evaluated is not None:
            self._log_evaluation(evaluated, metrics)
            metrics |= evaluated.metrics()
        else:
            self._log_metrics(step, metrics)
        self._log_samples(step, scored)
        timings = self._log_timings(step, tokens)
        self.state = TrainState(step, baseline, control, metrics["sampler/gap"], self._marks())
        self._undo = None
        self.reporter.step(step, metrics, timings, (rollout.batch.prompt_of(0).row.shown, rollout.texts[0]))
        if evaluated is not None:
            self.reporter.optimum(step, evaluated.optimum)
        share, limit = metrics["completion/truncated"], self.config.max_new_tokens
        if step == 1 and share > TRUNCATED_ALARM:
            self.reporter.note(f"{share:.0%} of the completions were cut at max_new_tokens={limit}, and judged as cut")
        if due(step, self.config.checkpoint.every, self.config.steps):
            self.save()

    def save(self) -> None:
        """Publish a checkpoint of the last complete step; raises UserError (exit 6) when the disk refuses."""
        root = self.folder / "checkpoints"
        with self.phase("checkpoint", 0):
            try:
                for log in self.logs.values():
                    log.sync()
                checkpoint.publish(root, self.state.step, lambda f: save(f, self.state, self.policy, self.optimizer))
                checkpoint.prune(root, self.config.checkpoint.keep)
            except OSError as error:
                raise UserError(
                    f"the checkpoint of step {self.state.step} cannot be written: {error.strerror or error}",
                    where=str(root),
                    fix="free some space, then continue by resume=",
                    exit_code=EXIT_DISK,
                ) from error

    def export_adapter(self) -> Path:
        """Copy the adapter of the last checkpoint to `adapter/`: a plain PEFT folder, replaced whole."""
        final, source = self.folder / "adapter", self.folder / "checkpoints" / f"step-{self.state.step:08d}"
        scratch = self.folder / ".adapter.new"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
            shutil.copyfile(source / name, scratch / name)
            checkpoint.sync(scratch / name)
        checkpoint.sync(scratch)
        shutil.rmtree(final, ignore_errors=True)
        scratch.rename(final)
        checkpoint.sync(self.folder)
        return final

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """A stop, or a mistake that shows itself in mid-run, saves the last complete step before it goes on its way."""
        with self.signals.installed():
            try:
                yield
            except (Stopped, UserError) as reason:
                if not (isinstance(reason, UserError) and reason.exit_code == EXIT_DISK):
                    if self._undo is not None:
                        put_back(self._undo, self.policy, self.optimizer)
                    self.save()
                    place = shlex.quote(str(self.folder))
                    self.reporter.note(f"step {self.state.step} is saved; continue it by: rlhf train resume={place}")
                raise
            finally:
                self.close()

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Time a stretch of work and show it; with every tick, and at its end, it may be stopped."""
        start = time.perf_counter()
        with self.reporter.phase(name, ticks) as shown:

            def tick() -> None:
                shown()
                self.signals.check()

            yield tick
        self._clock[name] = self._clock.get(name, 0.0) + time.perf_counter() - start
        self.signals.check()

    def close(self) -> None:
        """Close the files."""
        for log in self.logs.values():
            log.close()
        self.tensorboard.close()

    def _judged(self, rollout: Rollout, seed: int, step: int, of: str = "") -> Judged:
        """What the reward makes of completions; the first failure of a step is worth a note."""
        judged = scoring.judge(rollout, self.judge, seed=seed, tick=self.signals.check, where=f"step {step}{of}")
        if judged.failures and self._failed_at != step:
            self._failed_at = step
            failed = f"{judged.failures} of {len(rollout.batch)} completions have no usable score"
            self.reporter.note(f"step {step}: {failed}; the first: {judged.first}")
        return judged

    def _control(self, kl: float) -> Control | None:
        schedule = self.config.beta
        if isinstance(schedule, Controlled):
            return schedule.observe(self.state.control or schedule.begin(), kl)
        return None

    def _trust(self, rollout: Rollout) -> None:
        """Say that the sampler drifts from the trainer; raise UserError (exit 7) where too few samples are left."""
        found = mismatch(rollout.log_weights)
        said = (
            f"sampler and trainer disagree by up to {found.gap:.3g} nats a completion: "
            f"{found.effective_share:.0%} of the samples are left after weighting"
        )
        if found.effective_share < STOP_BELOW:
            raise UserError(said, where="sampler", fix="dtype=float32", exit_code=EXIT_NONFINITE)
        if found.effective_share < WARN_BELOW:
            self.reporter.note(f"step {self.state.step + 1}: {said}")

    # Writing things down.

    def _marks(self) -> dict[str, Mark]:
        return {name: log.mark() for name, log in self.logs.items()}

    def _log_metrics(self, step: int, metrics: dict[str, float]) -> None:
        self.logs["metrics"].write({"step": step, **metrics})
        self.tensorboard.write(step, metrics)

    def _log_evaluation(self, evaluated: Evaluation, metrics: dict[str, float]) -> None:
        self.logs["evaluations"].write(evaluated.row())
        self._log_metrics(evaluated.step, metrics | evaluated.metrics())

    def _log_samples(self, step: int, scored: Scored) -> None:
        rollout, kl = scored.rollout, scored.sequence_kl.tolist()
        for row in range(min(self.config.log_samples, len(rollout.batch))):
            self.logs["samples"].write(
                {
                    "step": step,
                    "prompt": rollout.batch.prompt_of(row).row.shown,
                    "completion": rollout.texts[row],
                    "score": float(scored.scores[row]),
                    "kl": kl[row],
                    "truncated": bool(rollout.truncated[row]),
                }
            )

    def _log_timings(self, step: int, tokens: int) -> dict[str, float]:
        seconds, self._clock = self._clock, {}
        total = sum(seconds.values())
        training = total - seconds.get("evaluation", 0.0) - seconds.get("checkpoint", 0.0)
        timings = {f"time/{name}_s": round(value, 4) for name, value in seconds.items()}
        timings |= {"time/step_s": round(total, 4), "tokens_per_s": round(tokens / max(training, 1e-9), 1)}
        self.logs["timings"].write({"step": step, **timings})
        return timings


def due(step: int, every: int, total: int) -> bool:
    """Whether what is done every `every` steps (0 = never), and after the last one, is due after step `step`."""
    return every > 0 and (step % every == 0 or step == total)
