"""Run: everything one run holds, with the stages of a step bound to it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from rlhf_cli.engine import Engine, reading
from rlhf_cli.engine.memory import room_for
from rlhf_cli.errors import EXIT_DISK, EXIT_NONFINITE, Stopped, UserError
from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.functional.mismatch import STOP_BELOW, TOLERANCE, WARN_BELOW, measure_mismatch
from rlhf_cli.functional.truncation import Truncation
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline import held_out, scoring, update
from rlhf_cli.pipeline.measures import measure
from rlhf_cli.pipeline.profiling import Profiler
from rlhf_cli.pipeline.saving import SaveFailed, Saver
from rlhf_cli.pipeline.skipping import Skip, dump
from rlhf_cli.pipeline.state import Best, Tensors, TrainState, copy_tensors, put_back
from rlhf_cli.pipeline.work import Work
from rlhf_cli.prompts.encoding import Prompts
from rlhf_cli.rewards.execution.scorer import Scorer, Scores
from rlhf_cli.rewards.shaping import Spread
from rlhf_cli.runs.logbook import Logbook
from rlhf_cli.schedules import Controlled
from rlhf_cli.schedules.controller import ControllerState
from rlhf_cli.schema import RunConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Advantages, Prompt, PromptBatch, Rollout, Scored

TRUNCATED_ALARM: Final = 0.3
OF_TRUNCATED: Final = {"keep": "judged as cut", "penalty": "penalised for it", "mask": "nothing is learned from them"}


@dataclass(slots=True)
class Run:
    """One run in the making; `state` is of its last complete step."""

    config: RunConfig
    folder: Path
    policy: Policy
    engine: Engine
    optimizer: torch.optim.Optimizer
    prompts: Prompts
    held_out: tuple[Prompt, ...]
    saver: Saver
    scorer: Scorer
    logbook: Logbook
    work: Work
    state: TrainState = field(default_factory=TrainState)
    profiler: Profiler | None = None
    _undo: Tensors | None = None
    _failed_at: int | None = None
    _retries: int = 0

    @property
    def truncation(self) -> Truncation:
        """What rollouts are sampled from."""
        return Truncation(self.config.top_k, self.config.top_p, self.config.min_p)

    # The stages of a step, in order.

    def next_prompts(self) -> PromptBatch:
        """The prompts of the step after the last complete one, and the streams of their samples."""
        config, step = self.config, self.state.step
        prompts = self.prompts.of_step(step, config.prompts_per_step, config.seed)
        seeds = tuple(
            seed_for(config.seed, "rollout", step, prompt, sample)
            for prompt in range(len(prompts))
            for sample in range(config.samples_per_prompt)
        )
        return PromptBatch(prompts, config.samples_per_prompt, seeds)

    def sample(self, batch: PromptBatch, temperature: float) -> Rollout:
        """The policy writes a completion for every sample of the batch."""
        limit = self.config.max_new_tokens
        with self.work.phase("rollout", limit) as tick, room_for(len(batch), "samples_per_prompt"):
            return self.engine.sample(batch, limit, temperature, tick, self.truncation)

    def beta(self, step: int) -> float:
        """The weight of the KL at `step`: of its schedule, or the present one of the controller that follows the KL."""
        schedule = self.config.beta
        if isinstance(schedule, Controlled):
            return (self.state.control or schedule.begin()).beta
        return schedule.at(step, self.config.steps)

    def score(self, rollout: Rollout, beta: float) -> Scored:
        """The reward judges the completions, the trainer and the reference read them."""
        config = self.config
        with self.work.phase("reward", 0):
            result = self._scores(rollout, seed_for(config.seed, "reward", self.state.step), self.state.step + 1)
            completions = len(rollout.batch)
            rollout, scores, parts = scoring.drop_unscored(rollout, result)
            self._note_failures(result, completions, self.state.step + 1)
            counts = scoring.learnable_mask(rollout, config.reward.truncated, config.algorithm.min_group)
        if self.state.sampler_gap is None or self.state.sampler_gap > TOLERANCE:
            with self.work.phase("trainer", self.work.parts(len(rollout.batch))) as tick:
                rollout = self.work.fitting(lambda size: reading.recompute_logprobs(rollout, self.engine, size, tick))
            self._trust(rollout)
        with self.work.phase("reference", self.work.parts(len(rollout.batch))) as tick:
            scored = self.work.fitting(
                lambda size: reading.score_against_reference(
                    rollout,
                    scores,
                    self.engine,
                    beta,
                    size,
                    tick,
                    counts=counts,
                    learned=self._normalised(scores, counts),
                    kl=config.kl,
                    measure_exact=due(self.state.step + 1, config.exact_kl_every, config.steps),
                    needs_value=config.algorithm.needs_value,
                )
            )
        return replace(scored, failures=result.failures, parts=parts)

    def update(self, advantages: Advantages) -> dict[str, float]:
        """The gradient steps that this rollout is good for: one, or several for the clipped algorithms.

        Raises Skip where they lead to numbers that are not finite.
        """
        config, step = self.config, self.state.step
        rows = advantages.scored.counts.nonzero().squeeze(1).cpu()
        plan = [rows[part] for part in update.minibatches(len(rows), config.algorithm, config.seed, step)]
        lr, updates = config.optimizer.lr_at(step, config.steps), []
        with self.work.phase("update", sum(self.work.parts(len(rows)) for rows in plan)) as tick:
            self._undo = copy_tensors(self.policy, self.optimizer)
            try:
                for number, rows in enumerate(plan):
                    learned = self._gradient(advantages, rows, seed_for(config.seed, "update", step, number), tick)
                    taken = update.apply(self.policy.parameters(), self.optimizer, lr, config.optimizer.max_grad_norm)
                    updates.append(learned | taken)
                update.check(advantages.scored.rollout, self.engine, self.policy.parameters())
            except update.NotFinite as error:
                fix = "resume with a lower learning rate: optimizer.lr=... resume_allow=[optimizer.lr]"
                raise Skip(str(error), fix, EXIT_NONFINITE, batch=advantages) from error
        learned = update.summary(updates)
        if config.model.lora.dropout:  # the update reads another policy than the rollout: nothing about the sampler
            del learned["sampler/gap"]
        return learned

    def _gradient(self, advantages: Advantages, rows: Tensor, seed: int, tick: Callable[[], None]) -> dict[str, float]:
        """Leave the gradient of one update in the weights; returns the loss's metrics."""

        def accumulated(size: int) -> dict[str, float]:
            self.optimizer.zero_grad()
            with self.policy.dropout(seed):
                return update.accumulate(
                    advantages,
                    rows,
                    self.config.algorithm,
                    self.engine,
                    kl=self.config.kl,
                    max_new_tokens=self.config.max_new_tokens,
                    microbatch_size=size,
                    tick=tick,
                )

        return self.work.fitting(accumulated)

    def evaluate(self, step: int) -> Evaluation:
        """Held-out prompts, fixed decoding, the run's final beta."""
        config = self.config
        at_once = held_out.batch_size(config.prompts_per_step, config.samples_per_prompt, config.evaluate.samples)
        per_batch = min(at_once, len(self.held_out))
        beta, temperature = self.beta(config.steps - 1), config.temperature.at(config.steps - 1, config.steps)
        undefined = config.reward.learned_otherwise or held_out.why_no_optimum(
            beta, temperature, self.truncation.is_active, config.evaluate.samples
        )
        batches, passes = -(-len(self.held_out) // per_batch), self.work.parts(per_batch * config.evaluate.samples)
        writers = 2 if step and not undefined else 1  # the reference writes and is read as well
        ticks = writers * batches * (config.max_new_tokens + passes)

        def score(rollout: Rollout, start: int) -> Scores:
            scores = self._scores(rollout, seed_for(config.seed, "reward/held_out", start), step, ", held-out")
            self._note_failures(scores, len(rollout.batch), step)
            return scores

        written_at_once = room_for(per_batch * config.evaluate.samples, "evaluate.samples")
        with self.work.phase("evaluation", ticks) as tick, written_at_once:
            return held_out.evaluate(
                self.held_out,
                self.engine,
                score=score,
                highest=config.reward.highest,
                step=step,
                beta=beta,
                undefined=undefined,
                seed=config.seed,
                samples=config.evaluate.samples,
                max_new_tokens=config.max_new_tokens,
                prompts_at_once=per_batch,
                fitting=self.work.fitting,
                tick=tick,
            )

    # What becomes of a step.

    def begin(self) -> None:
        """Step 0: prove now, not after an hour, that a checkpoint can be written, and evaluate the untouched policy."""
        self.save(needed=True)
        if self.config.evaluate.every:
            evaluated = self.evaluate(0)
            self.state = replace(self.state, best=Best(0, *evaluated.means()))
            self.logbook.evaluation(evaluated)
            self.logbook.metrics(0, evaluated.metrics())
            self._timings(0, 0)
            self.work.reporter.evaluated(0, evaluated.metrics())
            self.work.reporter.optimum(0, evaluated.optimum)

    def skip(self, reason: Skip) -> tuple[Advantages | None, dict[str, float]]:
        """The step changes nothing: undo it and keep its batch; returns what `complete` needs of such a step.

        The step before the trouble is saved. Raises UserError where it has befallen too many steps in a row.
        """
        step, skipped = self.state.step + 1, self.state.skipped + 1
        self._put_back()
        if skipped == 1:
            self.save(needed=False)
        kept = f": see {dump(self.folder, step, reason.reason, reason.batch)}" if reason.batch else ""
        if skipped > self.config.max_skipped_steps:
            raise UserError(
                f"{reason.reason} in step {step}, and {skipped} steps in a row changed nothing{kept}",
                where="max_skipped_steps",
                fix=reason.fix,
                exit_code=reason.exit_code,
            )
        self.work.reporter.note(f"step {step} changes nothing: {reason.reason}{kept}")
        return reason.batch, {"skipped": 1.0} | ({} if reason.batch else {"reward/failures": float(reason.failures)})

    def complete(self, advantages: Advantages | None, learned: dict[str, float], evaluated: Evaluation | None) -> None:
        """Log the step, make it the state to go back to, and save it when a checkpoint is due.

        `advantages` is None where the step was skipped before there were any.
        """
        state, step, sample, tokens = self.state, self.state.step + 1, ("", ""), 0
        metrics = {"skipped": 0.0} | learned
        if advantages is not None:
            scored, rollout = advantages.scored, advantages.scored.rollout
            metrics = measure(advantages) | metrics
            if rollout.compared:
                metrics["sampler/gap"] = measure_mismatch(rollout.log_weights).gap
            if not metrics["skipped"]:
                state = replace(
                    state,
                    baseline=state.baseline.observe(scored.returns[scored.counts]),
                    spread=self._spread(scored.scores, scored.counts),
                    control=self._control(float(scored.sequence_kl.double().mean())),
                    sampler_gap=metrics.get("sampler/gap", state.sampler_gap),
                )
            self.logbook.samples(step, scored, self.config.log_samples)
            sample, tokens = (rollout.batch.prompt_of(0).row.shown, rollout.texts[0]), int(rollout.lengths.sum())
            if self.config.reward.normalise:
                metrics["reward/scale"] = state.spread.deviation
        is_best, best = False, state.best
        if evaluated is not None:
            found = Best(step, *evaluated.means())
            is_best = best is None or found.objective(evaluated.beta) > best.objective(evaluated.beta)
            state = replace(state, best=found if is_best else best)
            self.logbook.evaluation(evaluated)
            metrics |= evaluated.metrics()
        self.logbook.metrics(step, metrics)
        timings = self._timings(step, tokens)
        skipped = state.skipped + 1 if metrics["skipped"] else 0
        halved = self.work.microbatch_size if self.work.microbatch_size != self.config.microbatch_size else None
        state = replace(state, step=step, skipped=skipped, microbatch_size=halved, logs=self.logbook.marks())
        self.state, self._undo = state, None
        self.work.reporter.step(step, metrics, timings, sample)
        if evaluated is not None:
            self.work.reporter.optimum(step, evaluated.optimum)
        share, limit = metrics.get("completion/truncated", 0.0), self.config.max_new_tokens
        if step == 1 and share > TRUNCATED_ALARM:
            fate = OF_TRUNCATED[self.config.reward.truncated]
            self.work.reporter.note(f"{share:.0%} of the completions were cut at max_new_tokens={limit}, and {fate}")
        last, keep = step == self.config.steps, self.config.checkpoint
        # while steps are skipped, the newest checkpoint stays one from before the trouble
        is_due = due(step, keep.every, self.config.steps) and not skipped
        if last or is_due or (is_best and keep.keep_best):
            saved = self.save(needed=last)
            if is_best and not saved:  # what is not there cannot be kept: the one before stays the best
                self.state = replace(self.state, best=best)
        if self.profiler is not None:
            self.profiler.step()

    def save(self, *, needed: bool) -> bool:
        """Publish a checkpoint of the last complete step; returns and raises as `Saver.save` does."""
        with self.work.phase("checkpoint", 0):
            return self.saver.save(self.state, self.policy, self.optimizer, self.logbook.sync, needed=needed)

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """A stop, or a mistake that shows itself in mid-run, saves the last complete step before it goes on its way."""
        with self.work.signals.polled():
            try:
                yield
            except SaveFailed:
                raise
            except (Stopped, UserError, BrokenPipeError) as reason:
                mistake = reason if isinstance(reason, UserError) else None
                if mistake is None or (mistake.exit_code != EXIT_DISK and not self.state.skipped):
                    self._put_back()
                    self.save(needed=True)
                    place = shlex.quote(str(self.folder))
                    self.work.reporter.note(
                        f"step {self.state.step} is saved; continue it by: rlhf train resume={place}"
                    )
                raise
            finally:
                self.logbook.close()
                if self.profiler is not None:
                    self.profiler.close()

    def _timings(self, step: int, tokens: int) -> dict[str, float]:
        retries, self._retries = self._retries, 0
        return self.logbook.timings(step, self.work.clock.lap(), tokens, retries)

    def _put_back(self) -> None:
        if self._undo is not None:
            put_back(self._undo, self.policy, self.optimizer)
            self._undo = None

    def _scores(self, rollout: Rollout, seed: int, step: int, of: str = "") -> Scores:
        scores = self.scorer.score(rollout, seed=seed, tick=self.work.signals.check, where=f"step {step}{of}")
        self._retries += scores.retries
        return scores

    def _note_failures(self, scores: Scores, completions: int, step: int) -> None:
        """Report the first failure of a step."""
        if scores.failures and self._failed_at != step:
            self._failed_at = step
            failed = f"{scores.failures} of {completions} completions have no usable score"
            self.work.reporter.note(f"step {step}: {failed}; the first: {scores.first_failure}")

    def _spread(self, scores: Tensor, counts: Tensor) -> Spread:
        """That of the run's scores with those of this step, where they are normalised."""
        return self.state.spread.observe(scores[counts].tolist()) if self.config.reward.normalise else self.state.spread

    def _normalised(self, scores: Tensor, counts: Tensor) -> Tensor | None:
        """What is learned from where that is not the scores themselves."""
        if not self.config.reward.normalise:
            return None
        return self._spread(scores, counts).normalised(scores)

    def _control(self, kl: float) -> ControllerState | None:
        schedule = self.config.beta
        if isinstance(schedule, Controlled):
            return schedule.observe(self.state.control or schedule.begin(), kl)
        return None

    def _trust(self, rollout: Rollout) -> None:
        """Say that the sampler drifts from the trainer; raise UserError (exit 7) where too few samples are left."""
        found = measure_mismatch(rollout.log_weights)
        said = (
            f"sampler and trainer disagree by up to {found.gap:.3g} nats a completion: "
            f"{found.effective_share:.0%} of the samples are left after weighting"
        )
        if found.effective_share < STOP_BELOW:
            raise UserError(said, where="sampler", fix="dtype=float32", exit_code=EXIT_NONFINITE)
        if found.effective_share < WARN_BELOW:
            self.work.reporter.note(f"step {self.state.step + 1}: {said}")


def due(step: int, every: int, total: int) -> bool:
    """Whether what is done every `every` steps (0 = never), and after the last one, is due after step `step`."""
    return every > 0 and (step % every == 0 or step == total)
