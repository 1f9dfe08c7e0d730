"""Completions of the untouched reference, and their scores."""

from __future__ import annotations

from collections.abc import Iterator

from rlhf_cli.engine.choice import build_engine
from rlhf_cli.engine.opening import load_policy
from rlhf_cli.errors import EXIT_DATA, EXIT_REWARD, UserError
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.pipeline.scoring import group_scores
from rlhf_cli.prompts.encoding import encode_held_out
from rlhf_cli.prompts.rows import Rows
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.execution.scorer import Scorer
from rlhf_cli.schema import RunConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptBatch, PromptRow, Rollout


def reference_rewards(
    config: RunConfig, rows: Rows, samples: int, temperature: float, reporter: Reporter
) -> list[list[float]]:
    """Score `samples` completions of the reference for each held-out prompt; one list a prompt.

    The streams depend on seed, prompt and sample only. A prompt with a completion that has no score is left out. Raises
    UserError for prompts, models and settings that do not fit together, and for a reward that fails.
    """
    rewards: dict[int, list[float]] = {}
    left_out: set[int] = set()
    with Scorer(config.reward, rows.columns, log=None) as scorer:
        for (start, first), rollout in _rollouts(config, rows, samples, temperature, reporter):
            seed = seed_for(config.seed, "reward/oracle", start, first)
            scores = scorer.score(rollout, seed=seed, tick=lambda: None, where="oracle")
            left_out |= {start + number for number in scores.left_out}
            for number, values in group_scores(scores, rollout).items():
                rewards.setdefault(start + number, []).extend(values)
    kept = [scores for prompt, scores in rewards.items() if prompt not in left_out]
    if not kept:
        raise UserError("every prompt has a completion that the reward has no score for", exit_code=EXIT_REWARD)
    if left_out:
        reporter.note(
            f"{len(left_out)} of {len(kept) + len(left_out)} prompts are left out, which the reward has no score for"
        )
    return kept


def reference_texts(
    config: RunConfig, rows: Rows, samples: int, temperature: float, reporter: Reporter
) -> list[tuple[PromptRow, tuple[str, ...]]]:
    """`samples` completions of the reference for each held-out prompt; samples and raises as `reference_rewards`."""
    answers: dict[int, tuple[PromptRow, tuple[str, ...]]] = {}
    for (start, _), rollout in _rollouts(config, rows, samples, temperature, reporter):
        size = rollout.batch.samples_per_prompt
        for place, prompt in enumerate(rollout.batch.prompts):
            _, before = answers.get(start + place, (prompt.row, ()))
            answers[start + place] = prompt.row, (*before, *rollout.texts[place * size : (place + 1) * size])
    return list(answers.values())


def _rollouts(
    config: RunConfig, rows: Rows, samples: int, temperature: float, reporter: Reporter
) -> Iterator[tuple[tuple[int, int], Rollout]]:
    """Sample from the reference; yields rollouts, each with the numbers of its first prompt and first sample."""
    with reporter.phase("loading the model", 0):
        policy = load_policy(config, reporter.note)
        engine = build_engine(policy, config.model, reporter.note)
    prompts = encode_held_out(rows, policy.encoder, policy.context, config, reporter)
    if not prompts:
        raise UserError(
            "no held-out prompt is left",
            where=config.data.place(held_out=True),
            fix="raise data.max_prompt_tokens",
            exit_code=EXIT_DATA,
        )
    at_once = config.prompts_per_step * max(config.samples_per_prompt, config.evaluate.samples)
    width = min(samples, at_once)  # samples of a prompt at once
    height = at_once // width  # prompts at once
    batches = -(-len(prompts) // height) * -(-samples // width)
    with reporter.phase("the reference writes", batches * config.max_new_tokens) as tick:
        for start in range(0, len(prompts), height):
            numbers = range(start, min(start + height, len(prompts)))
            for first in range(0, samples, width):
                part = range(first, min(first + width, samples))
                seeds = tuple(seed_for(config.seed, "oracle", prompt, sample) for prompt in numbers for sample in part)
                batch = PromptBatch(tuple(prompts[prompt] for prompt in numbers), len(part), seeds)
                limit = config.max_new_tokens
                yield (start, first), engine.sample(batch, Sampling(limit, temperature), tick, reference=True)
