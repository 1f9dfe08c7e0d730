"""Run: everything one run holds, with the stages of a step bound to it."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch

from rlhf_cli import checkpoint
from rlhf_cli.data.order import rows_of_step
from rlhf_cli.engine import Engine
from rlhf_cli.errors import EXIT_DISK, Stopped, UserError
from rlhf_cli.functional.optimum import LEAST
from rlhf_cli.metrics import JsonlLog, Mark, TensorBoard
from rlhf_cli.models.policy import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Policy
from rlhf_cli.pipeline import held_out, scoring, update
from rlhf_cli.pipeline.evaluation import Evaluation
from rlhf_cli.pipeline.measures import measure
from rlhf_cli.pipeline.reporter import Reporter
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.pipeline.state import Tensors, TrainState, copy_tensors, put_back, save
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
    reporter: Reporter
    logs: dict[str, JsonlLog]
    tensorboard: TensorBoard
    state: TrainState = field(default_factory=TrainState)
    signals: StopSignals = field(default_factory=StopSignals)
    _clock: dict[str, float] = field(default_factory=dict)
    _undo: Tensors | None = None

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
        with self.phase("rollout", self.config.max_new_tokens) as tick:
            return self.engine.sample(batch, self.config.max_new_tokens, temperature, tick)

    def score(self, rollout: Rollout, beta: float) -> Scored:
        """The reward judges the completions, the reference reads them."""
        with self.phase("reward", 0):
            scores = scoring.judge(rollout, self.config.reward)
        with self.phase("reference", -(-len(rollout.batch) // self.microbatch_size)) as tick:
            return scoring.against(rollout, scores, self.engine, beta, self.microbatch_size, tick)

    def update(self, advantages: Advantages) -> dict[str, float]:
        """One gradient step on the adapter."""
        config = self.config
        with self.phase("update", -(-len(advantages.advantages) // self.microbatch_size)) as tick:
            self._undo = copy_tensors(self.policy, self.optimizer)
            loss = update.accumulate(advantages, config.algorithm, self.engine, self.microbatch_size, tick)
            lr = config.optimizer.lr_at(self.state.step, config.steps)
            return loss | update.apply(self.policy.parameters(), self.optimizer, lr, config.optimizer.max_grad_norm)

    def evaluate(self, step: int) -> Evaluation:
        """Held-out prompts, fixed decoding, the run's final beta."""
        config, per_batch = self.config, self.config.prompts_per_step
        batches = -(-len(self.held_out) // per_batch)
        reference = -(-per_batch * config.evaluate.samples // self.microbatch_size)
        writers = 2 if step and config.evaluate.samples >= LEAST else 1
        with self.phase("evaluation", writers * batches * (config.max_new_tokens + reference)) as tick:
            return held_out.evaluate(
                self.held_out,
                self.engine,
                config.reward,
                reference=self.policy.reference,
                step=step,
                beta=config.beta.at(config.steps - 1, config.steps),
                trained_at=config.temperature.at(config.steps - 1, config.steps),
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
        if evaluated is not None:
            self._log_evaluation(evaluated, metrics)
            metrics |= evaluated.metrics()
        else:
            self._log_metrics(step, metrics)
        self._log_samples(step, scored)
        timings = self._log_timings(step, tokens)
        self.state = TrainState(step, baseline, self._marks())
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
        rollout, kl = scored.rollout, scored.exact_kl.sum(1).tolist()
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
