"""Held-out evaluation: always the same prompts, temperature 1 and streams, so that two evaluations are paired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rlhf_cli.engine import Engine
from rlhf_cli.pipeline.evaluation import Evaluation
from rlhf_cli.pipeline.scoring import against, judge
from rlhf_cli.rewards import Reward
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Prompt, PromptBatch


def evaluate(
    prompts: Sequence[Prompt],
    engine: Engine,
    reward: Reward,
    *,
    step: int,
    beta: float,
    seed: int,
    samples: int,
    max_new_tokens: int,
    prompts_at_once: int,
    microbatch_size: int,
    tick: Callable[[], None],
) -> Evaluation:
    """Sample every prompt at temperature 1 and score it; `tick` is called after every token.

    The streams depend on seed, prompt and sample, not on the step: the noise that two evaluations share cancels in
    their difference.
    """
    columns: tuple[list[Any], ...] = ([], [], [], [], [])
    for start in range(0, len(prompts), prompts_at_once):
        chosen = tuple(prompts[start : start + prompts_at_once])
        seeds = tuple(seed_for(seed, "eval", start + p, s) for p in range(len(chosen)) for s in range(samples))
        rollout = engine.sample(PromptBatch(chosen, samples, seeds), max_new_tokens, 1.0, tick)
        scored = against(rollout, judge(rollout, reward), engine, beta, microbatch_size, tick)
        values = (
            scored.scores.tolist(),
            scored.sequence_kl.tolist(),
            rollout.lengths.tolist(),
            rollout.truncated.tolist(),
            rollout.texts,
        )
        for column, flat in zip(columns, values, strict=True):
            column.extend(_grouped(flat, samples))
    return Evaluation(step, beta, *columns)


def _grouped(flat: Sequence[Any], size: int) -> list[list[Any]]:
    return [list(flat[start : start + size]) for start in range(0, len(flat), size)]
