"""Held-out evaluation: always the same prompts, temperature 1 and streams, so that two evaluations are paired."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, product
from typing import Any, Final

from torch import Tensor

from rlhf_cli.engine.memory import room_for
from rlhf_cli.engine.reading import measure_distance, recompute_logprobs
from rlhf_cli.errors import EXIT_NONFINITE, EXIT_REWARD, UserError
from rlhf_cli.evaluation.evaluation import Completions, Evaluation, estimate_progress
from rlhf_cli.evaluation.optimum import LEAST, unknown
from rlhf_cli.functional.mismatch import TOLERANCE, measure_mismatch
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.pipeline.run import Run, current_beta, truncation
from rlhf_cli.pipeline.scoring import ask, group_scores, note_failures
from rlhf_cli.rewards.execution.scorer import Scores
from rlhf_cli.schema import RunConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Distance, PromptBatch, Rollout

TEMPERATURE: Final = 1.0
AT_ONCE: Final = 64
"""Completions to sample at once: up to about this number, twice as many take hardly longer."""


def evaluate(run: Run, step: int) -> Evaluation:
    """Sample every held-out prompt at temperature 1, score the completions, and compare them with the reference's.

    The streams depend on seed, prompt and sample, not on the step: the noise that two evaluations share cancels in
    their difference. The reference samples from the same streams, unless `why_no_optimum` has a reason;
    at step 0 it is the policy. A prompt with a completion that has no score is left out. Raises UserError (exit 4)
    where fewer than two prompts are left, and (exit 7) where a KL is not finite.
    """
    config, work, limit, samples = run.config, run.work, run.config.max_new_tokens, run.config.evaluate.samples
    beta = current_beta(run, config.steps - 1)
    no_optimum = why_no_optimum(config, beta)
    asks_reference = step > 0 and no_optimum is None
    at_once = min(prompts_at_once(config), len(run.held_out))
    batches = -(-len(run.held_out) // at_once)
    ticks = (2 if asks_reference else 1) * batches * (limit + work.parts(at_once * samples))
    policy, reference = defaultdict[str, list[Any]](list), defaultdict[str, list[Any]](list)
    numbers, failures = list[int](), 0
    sampler_differs = True  # from the trainer, until the first batch shows otherwise
    with work.phase("evaluation", ticks) as tick, room_for(at_once * samples, "evaluate.samples"):
        for start in range(0, len(run.held_out), at_once):
            batch = _batch(run, start, at_once)
            rollout = run.engine.sample(batch, Sampling(limit, TEMPERATURE), tick)
            if sampler_differs:
                rollout, log_weights = _recompute(run, rollout, tick)
                sampler_differs = measure_mismatch(log_weights).gap > TOLERANCE
            scores, distance = _score(run, rollout, start, step), _distance(run, rollout, tick)
            left_out, failures = scores.left_out, failures + scores.failures
            columns = {
                "reward": group_scores(scores, rollout),
                "kl": _group(distance.sequence_kl, samples),
                "length": _group(rollout.lengths, samples),
                "truncated": _group(rollout.truncated, samples),
                "texts": _group(rollout.texts, samples),
                "logprob": _group(rollout.logprobs.sum(1), samples),
                "ref_logprob": _group(distance.ref_logprobs.sum(1), samples),
            }
            ref_columns = {}
            if asks_reference:
                rollout = run.engine.sample(batch, Sampling(limit, TEMPERATURE), tick, reference=True)
                if sampler_differs:
                    rollout, _ = _recompute(run, rollout, tick, reference=True)
                by_policy, _ = _recompute(run, rollout, tick)
                scores = _score(run, rollout, start, step)
                left_out, failures = left_out | scores.left_out, failures + scores.failures
                ref_columns = {
                    "reward": group_scores(scores, rollout),
                    "logprob": _group(by_policy.logprobs.sum(1), samples),
                    "ref_logprob": _group(rollout.logprobs.sum(1), samples),
                }
            kept = [number for number in range(len(batch.prompts)) if number not in left_out]
            numbers += [start + number for number in kept]
            for table, new in ((policy, columns), (reference, ref_columns)):
                for name, groups in new.items():
                    table[name] += [groups[number] for number in kept]
    if len(numbers) < 2:
        raise UserError(
            f"{len(numbers)} of {len(run.held_out)} held-out prompts are left: {failures} completions have no score",
            where="reward",
            fix="mend the reward, or choose reward.on_error=value",
            exit_code=EXIT_REWARD,
        )
    check_finite(policy, reference, step)
    own = Completions(policy["reward"], policy["logprob"], policy["ref_logprob"])
    if no_optimum is not None:
        other, optimum = None, unknown(no_optimum)
    else:
        other = Completions(**reference) if asks_reference else own
        optimum = estimate_progress(own, other, policy["kl"], beta, config.reward.highest)
    return Evaluation(step, beta, numbers, failures, **policy, reference=other, optimum=optimum)


def check_finite(policy: Mapping[str, Sequence[Any]], reference: Mapping[str, Sequence[Any]], step: int) -> None:
    """Raise UserError (exit 7) where a KL or a log-probability of an evaluation is not finite: nor is its objective."""
    for name, table in (("kl", policy), *product(("logprob", "ref_logprob"), (policy, reference))):
        if not all(map(math.isfinite, chain.from_iterable(table.get(name, ())))):
            what = "KL" if name == "kl" else "log-probability"
            raise UserError(
                f"the {what} of a held-out completion is not finite after step {step}",
                where="evaluate",
                fix="lower it: optimizer.lr=... resume_allow=[optimizer.lr]" if step else "take dtype=float32",
                exit_code=EXIT_NONFINITE,
            )


def prompts_at_once(config: RunConfig) -> int:
    """Prompts in a batch of an evaluation: as many as in a step, or more for up to twice a step's completions."""
    prompts = config.prompts_per_step
    return max(prompts, min(AT_ONCE, 2 * prompts * config.samples_per_prompt) // config.evaluate.samples)


def why_no_optimum(config: RunConfig, beta: float) -> str | None:
    """Why samples of the reference cannot show how far the optimum of the last step is; None where they may."""
    temperature = config.temperature.at(config.steps - 1, config.steps)
    if config.reward.why_no_optimum:
        return config.reward.why_no_optimum
    if not beta:
        return "beta is 0"
    if temperature != TEMPERATURE:
        return f"trained at T = {temperature:g}, evaluated at {TEMPERATURE:g}"
    if truncation(config).is_active:
        return "trained on a truncated policy, evaluated on the whole"
    if config.evaluate.samples < LEAST:
        return f"needs at least {LEAST} samples a prompt (evaluate.samples={config.evaluate.samples})"
    return None


def _batch(run: Run, start: int, count: int) -> PromptBatch:
    """The held-out prompts from number `start` on, at most `count`, and the seed of each sample."""
    prompts, samples = run.held_out[start : start + count], run.config.evaluate.samples
    numbers = range(start, start + len(prompts))
    seeds = tuple(seed_for(run.config.seed, "eval", number, sample) for number in numbers for sample in range(samples))
    return PromptBatch(prompts, samples, seeds)


def _recompute(
    run: Run, rollout: Rollout, tick: Callable[[], None], *, reference: bool = False
) -> tuple[Rollout, Tensor]:
    return run.work.fitting(lambda size: recompute_logprobs(rollout, run.engine, size, tick, reference=reference))


def _distance(run: Run, rollout: Rollout, tick: Callable[[], None]) -> Distance:
    return run.work.fitting(lambda size: measure_distance(rollout, run.engine, size, tick))


def _score(run: Run, rollout: Rollout, start: int, step: int) -> Scores:
    scores = ask(run, rollout, seed_for(run.config.seed, "reward/held_out", start), f"step {step}, held-out")
    note_failures(run, scores, len(rollout.batch), step)
    return scores


def _group(values: Tensor | Sequence[Any], samples: int) -> Mapping[int, list[Any]]:
    """The values of each prompt's completions, by its number in the batch."""
    flat = values.tolist() if isinstance(values, Tensor) else list(values)
    return dict(enumerate(flat[start : start + samples] for start in range(0, len(flat), samples)))
