"""Held-out evaluation: always the same prompts, temperature 1 and streams, so that two evaluations are paired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from torch import Tensor

from rlhf_cli.engine import Engine
from rlhf_cli.functional.mismatch import TOLERANCE, mismatch
from rlhf_cli.functional.optimum import LEAST, unknown
from rlhf_cli.pipeline.evaluation import Completions, Evaluation, towards_optimum
from rlhf_cli.pipeline.scoring import against, judge, reread
from rlhf_cli.rewards import Reward
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Prompt, PromptBatch

TEMPERATURE: Final = 1.0


def evaluate(
    prompts: Sequence[Prompt],
    engine: Engine,
    reward: Reward,
    *,
    reference: Callable[[], AbstractContextManager[None]],
    step: int,
    beta: float,
    undefined: str,
    seed: int,
    samples: int,
    max_new_tokens: int,
    prompts_at_once: int,
    microbatch_size: int,
    tick: Callable[[], None],
) -> Evaluation:
    """Sample every prompt at temperature 1 and score it; `tick` is called after every token and microbatch.

    The streams depend on seed, prompt and sample, not on the step: the noise that two evaluations share cancels in
    their difference. Inside `reference()` the engine is the reference. It writes completions too, from the same
    streams, unless it is known why they could not tell how far the optimum is (`undefined`). At step 0 it is the
    policy.
    """
    columns: list[list[Any]] = [[] for _ in range(7)]
    of_reference: list[list[Any]] = [[] for _ in range(3)]
    rounds = True  # the sampler, differently from the trainer: until the first batch shows otherwise
    for start in range(0, len(prompts), prompts_at_once):
        chosen = tuple(prompts[start : start + prompts_at_once])
        seeds = tuple(seed_for(seed, "eval", start + p, s) for p in range(len(chosen)) for s in range(samples))
        batch = PromptBatch(chosen, samples, seeds)
        rollout = engine.sample(batch, max_new_tokens, TEMPERATURE, tick)
        if rounds:
            rollout = reread(rollout, engine, microbatch_size, tick)
            rounds = mismatch(rollout.log_weights).gap > TOLERANCE
        scored = against(rollout, judge(rollout, reward), engine, beta, microbatch_size, tick)
        values = (
            scored.scores,
            scored.sequence_kl,
            rollout.lengths,
            rollout.truncated,
            rollout.texts,
            rollout.logprobs.sum(1),
            scored.ref_logprobs.sum(1),
        )
        _extend(columns, values, samples)
        if step and not undefined:
            with reference():
                written = engine.sample(batch, max_new_tokens, TEMPERATURE, tick)
                written = reread(written, engine, microbatch_size, tick) if rounds else written
            read = reread(written, engine, microbatch_size, tick)
            _extend(of_reference, (judge(written, reward), read.logprobs.sum(1), written.logprobs.sum(1)), samples)
    scores, kl, lengths, truncated, texts, logprob, ref_logprob = columns
    policy = Completions(scores, logprob, ref_logprob)
    other = None if undefined else Completions(*of_reference) if step else policy
    found = towards_optimum(policy, other, kl, beta, reward.highest) if other else unknown(undefined)
    return Evaluation(step, beta, scores, kl, lengths, truncated, texts, logprob, ref_logprob, other, found)


def undefined(beta: float, trained_at: float, trained_truncated: bool, samples: int) -> str:
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


def _extend(columns: Sequence[list[Any]], values: Sequence[Tensor | Sequence[Any]], size: int) -> None:
    """Add one value a completion to each column, as lists of `size`: one a prompt."""
    for column, given in zip(columns, values, strict=True):
        flat = given.tolist() if isinstance(given, Tensor) else list(given)
        column.extend(flat[start : start + size] for start in range(0, len(flat), size))
