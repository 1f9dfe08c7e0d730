"""Completions of the untouched reference at the held-out prompts, scored."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.pipeline.assemble import encode, load_policy
from rlhf_cli.pipeline.reporter import Reporter
from rlhf_cli.pipeline.scoring import judge
from rlhf_cli.schema import RunConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptBatch, PromptRow


def reference_rewards(
    config: RunConfig, rows: Sequence[PromptRow], samples: int, temperature: float, reporter: Reporter
) -> list[list[float]]:
    """The rewards of `samples` completions of the reference for each of `rows`; a list a prompt.

    No more completions are written at once than by an evaluation of the run. The streams depend on the seed, the prompt
    and the sample alone. Raises UserError for prompts, models and settings that do not fit together.
    """
    with reporter.phase("loading the model", 0):
        policy = load_policy(config)
        engine = TransformersEngine(policy)
    prompts = encode(rows, policy, config, reporter)
    if not prompts:
        raise UserError(
            "no held-out prompt is left",
            where=config.data.eval_path or config.data.path,
            fix="raise data.max_prompt_tokens",
            exit_code=EXIT_DATA,
        )
    at_once = config.prompts_per_step * max(config.samples_per_prompt, config.evaluate.samples)
    width = min(samples, at_once)  # samples of a prompt at once
    height = at_once // width  # prompts at once
    batches = -(-len(prompts) // height) * -(-samples // width)
    rewards: list[list[float]] = [[] for _ in prompts]
    with reporter.phase("the reference writes", batches * config.max_new_tokens) as tick, policy.reference():
        for start in range(0, len(prompts), height):
            numbers = range(start, min(start + height, len(prompts)))
            for first in range(0, samples, width):
                part = range(first, min(first + width, samples))
                seeds = tuple(seed_for(config.seed, "oracle", prompt, sample) for prompt in numbers for sample in part)
                batch = PromptBatch(tuple(prompts[prompt] for prompt in numbers), len(part), seeds)
                rollout = engine.sample(batch, config.max_new_tokens, temperature, tick)
                for prompt, scores in zip(numbers, judge(rollout, config.reward).split(len(part)), strict=True):
                    rewards[prompt].extend(scores.tolist())
    return rewards
