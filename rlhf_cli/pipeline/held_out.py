"""Held-out evaluation: always the same prompts, temperature 1 and streams, so that two evaluations are paired."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from rlhf_cli.engine import Engine
from rlhf_cli.engine.reading import recompute_logprobs, score_against_reference
from rlhf_cli.errors import EXIT_REWARD, UserError
from rlhf_cli.evaluation.evaluation import Completions, Evaluation, towards_optimum
from rlhf_cli.evaluation.optimum import LEAST, unknown
from rlhf_cli.functional.mismatch import TOLERANCE, measure_mismatch
from rlhf_cli.pipeline.scoring import scores_by_prompt
from rlhf_cli.rewards.execution.scorer import Scores
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Prompt, PromptBatch, Rollout, Scored

TEMPERATURE: Final = 1.0
AT_ONCE: Final = 64
"""Completions that are worth writing at once: twice as many take hardly longer, up to about here."""


def batch_size(prompts_per_step: int, samples_per_prompt: int, samples: int) -> int:
    """Prompts of one batch of an evaluation: those of a step, or more for up to twice a step's completions."""
    return max(prompts_per_step, min(AT_ONCE, 2 * prompts_per_step * samples_per_prompt) // samples)


def evaluate(
    prompts: Sequence[Prompt],
    engine: Engine,
    *,
    score: Callable[[Rollout, int], Scores],
    highest: float,
    step: int,
    beta: float,
    undefined: str,
    seed: int,
    samples: int,
    max_new_tokens: int,
    prompts_at_once: int,
    fitting: Callable[[Callable[[int], Any]], Any],
    tick: Callable[[], None],
) -> Evaluation:
    """Sample every prompt at temperature 1 and score it; `tick` is called after every token and microbatch.

    `score` scores the completions of some prompts, the number of the first given; a prompt that it leaves out is left
    out here. `highest` is the highest score there is. `fitting` is given what is to be done in microbatches of a size,
    and returns what that returns. Raises UserError (exit 4) where fewer than two prompts are left.

    The streams depend on seed, prompt and sample, not on the step: the noise that two evaluations share cancels in
    their difference. The reference writes completions too, from the same streams, unless it is known why they could not
    tell how far the optimum is (`undefined`). At step 0 it is the policy.
    """

    def read(rollout: Rollout, *, reference: bool = False) -> Rollout:
        again: Rollout = fitting(lambda size: recompute_logprobs(rollout, engine, size, tick, reference=reference))
        return again

    def compared(rollout: Rollout) -> Scored:
        zeros = torch.zeros_like(rollout.log_weights)  # no score plays a part in the distance from the reference
        scored: Scored = fitting(lambda size: score_against_reference(rollout, zeros, engine, beta, size, tick))
        return scored

    rewards: list[list[float]] = []
    ref_rewards: list[list[float]] = []
    columns: list[list[Any]] = [[] for _ in range(6)]
    of_reference: list[list[Any]] = [[] for _ in range(2)]
    numbers: list[int] = []
    failures = 0
    rounds = True  # the sampler, differently from the trainer: until the first batch shows otherwise
    for start in range(0, len(prompts), prompts_at_once):
        chosen = tuple(prompts[start : start + prompts_at_once])
        seeds = tuple(seed_for(seed, "eval", start + p, s) for p in range(len(chosen)) for s in range(samples))
        batch = PromptBatch(chosen, samples, seeds)
        rollout = engine.sample(batch, max_new_tokens, TEMPERATURE, tick)
        if rounds:
            rollout = read(rollout)
            rounds = measure_mismatch(rollout.log_weights).gap > TOLERANCE
        scores = score(rollout, start)
        scored, by_prompt = compared(rollout), scores_by_prompt(scores, rollout)
        dropped, failures = scores.left_out, failures + scores.failures
        values = (
            scored.sequence_kl,
            rollout.lengths,
            rollout.truncated,
            rollout.texts,
            rollout.logprobs.sum(1),
            scored.ref_logprobs.sum(1),
        )
        if step and not undefined:
            written = engine.sample(batch, max_new_tokens, TEMPERATURE, tick, reference=True)
            written = read(written, reference=True) if rounds else written
            policys = read(written)
            scores = score(written, start)
            dropped, failures = dropped | scores.left_out, failures + scores.failures
            ref_by_prompt = scores_by_prompt(scores, written)
            ref_rewards += [group for number, group in ref_by_prompt.items() if number not in dropped]
            _extend(of_reference, (policys.logprobs.sum(1), written.logprobs.sum(1)), samples, dropped)
        rewards += [group for number, group in by_prompt.items() if number not in dropped]
        _extend(columns, values, samples, dropped)
        numbers += [start + number for number in range(len(chosen)) if number not in dropped]
    if len(numbers) < 2:
        raise UserError(
            f"{len(numbers)} of {len(prompts)} held-out prompts are left: {failures} completions have no score",
            where="reward",
            fix="mend the reward, or choose reward.on_error=value",
            exit_code=EXIT_REWARD,
        )
    kl, lengths, truncated, texts, logprob, ref_logprob = columns
    policy = Completions(rewards, logprob, ref_logprob)
    other = None if undefined else Completions(ref_rewards, *of_reference) if step else policy
    found = towards_optimum(policy, other, kl, beta, highest) if other else unknown(undefined)
    return Evaluation(
        step, beta, numbers, failures, rewards, kl, lengths, truncated, texts, logprob, ref_logprob, other, found
    )


def why_no_optimum(beta: float, trained_at: float, trained_truncated: bool, samples: int) -> str:
    """Why no sample of the reference can tell how far the optimum is; empty where some may.

    `trained_at` and `trained_truncated`: what the run's last step samples from.
    """
    if not beta:
        return "beta is 0"
    if trained_at != TEMPERATURE:
        return f"trained at T = {trained_at:g}, evaluated at {TEMPERATURE:g}"
    if trained_truncated:
        return "trained on a truncated policy, evaluated on the whole"
    if samples < LEAST:
        return f"needs at least {LEAST} samples a prompt (evaluate.samples={samples})"
    return ""


def _extend(
    columns: Sequence[list[Any]], values: Sequence[Tensor | Sequence[Any]], size: int, dropped: Collection[int]
) -> None:
    """Add one value a completion to each column, as lists of `size`: one a prompt that was not dropped."""
    for column, given in zip(columns, values, strict=True):
        flat = given.tolist() if isinstance(given, Tensor) else list(given)
        column.extend(flat[start : start + size] for start in range(0, len(flat), size) if start // size not in dropped)
