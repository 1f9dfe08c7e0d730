"""Sample completions of the next prompts from the policy."""

from __future__ import annotations

from rlhf_cli.engine.memory import room_for
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.pipeline.run import Run, reusing_engine, truncation
from rlhf_cli.prompts.headroom import Headroom
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptBatch, Rollout


def sample(run: Run, temperature: float) -> Rollout:
    """Sample `samples_per_prompt` completions of each of the step's prompts."""
    batch, limit = next_prompts(run), run.config.max_new_tokens
    ticks = limit * len(run.shards.own(len(batch.prompts)))
    with run.work.phase("rollout", ticks) as tick, room_for(len(batch), "samples_per_prompt"):
        sampling = Sampling(limit, temperature, truncation(run.config))
        remember = None if reusing_engine(run) is None else run.state.step
        return run.shards.sample(batch, sampling, tick, remember=remember)


def next_prompts(run: Run) -> PromptBatch:
    """The prompts of the next step, and the seed of each sample."""
    config, step = run.config, run.state.step
    count, draws = config.prompts_per_step, tuple[tuple[int, float], ...]()
    if config.prompts == "headroom":
        draws = (run.state.headroom or Headroom()).draw(run.prompts.parts, count, config.seed, step)
        prompts = run.prompts.numbered([number for number, _ in draws])
    else:
        prompts = run.prompts.of_step(step, count, config.seed)
    seeds = tuple(
        seed_for(config.seed, "rollout", step, prompt, sample)
        for prompt in range(len(prompts))
        for sample in range(config.samples_per_prompt)
    )
    return PromptBatch(prompts, config.samples_per_prompt, seeds, draws)
