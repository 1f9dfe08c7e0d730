"""Gradient ascent on a problem with known answers, by the stages of a training run."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.placement import Placement, penalty
from rlhf_cli.demo.problem import Problem
from rlhf_cli.engine.reading import measure_distance, read_values
from rlhf_cli.engine.tabular import TabularEngine
from rlhf_cli.functional.returns import token_rewards
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.pipeline.update import apply, split_rollout, summarise
from rlhf_cli.ranks.gradient import accumulate_gradient
from rlhf_cli.seeding import permutation, seed_for
from rlhf_cli.types import Advantages, PromptBatch, Scored

Watch = Callable[[int, TabularEngine, Mapping[str, float]], None]
"""Called after every step with its number from 1, the policy and the step's metrics."""


def climb(
    problem: Problem,
    algorithm: Algorithm,
    *,
    steps: int,
    prompts_per_step: int,
    samples_per_prompt: int,
    lr: float,
    seed: int,
    kl: Placement = "reward",
    watch: Watch = lambda step, engine, metrics: None,
) -> TabularEngine:
    """Train from the reference with Adam and a learning rate that falls to zero by a cosine; return the policy."""
    engine = problem.engine()
    optimizer = torch.optim.Adam(engine.parameters().values())
    past = RunningMean()
    for step in range(steps):
        scored = roll_out(problem, engine, prompts_per_step, samples_per_prompt, kl, algorithm.needs_value, seed, step)
        advantages = algorithm.advantages(scored, past)
        past = past.observe(scored.rewards.sum(1))
        rate, updates = lr * (1 + math.cos(math.pi * step / steps)) / 2, []
        for rows in split_rollout(len(scored.scores), algorithm, seed, step):
            learned = learn(advantages, rows, algorithm, engine, kl)
            trained = {name: p for name, p in engine.parameters().items() if p.grad is not None}
            updates.append(learned | apply(trained, optimizer, rate, math.inf))
        watch(step + 1, engine, summarise(updates))
    return engine


def learn(
    advantages: Advantages, rows: Tensor, algorithm: Algorithm, engine: TabularEngine, kl: Placement
) -> dict[str, float]:
    """Add the gradient of the completions `rows`, all at once, to the policy's; returns the loss's metrics."""
    add = partial(accumulate_gradient, kl=kl, microbatch_size=len(rows), tick=lambda: None)
    return add(advantages, rows, algorithm, engine, max_new_tokens=advantages.scored.rollout.tokens.shape[1])


def roll_out(
    problem: Problem,
    engine: TabularEngine,
    prompts_per_step: int,
    samples_per_prompt: int,
    kl: Placement,
    needs_value: bool,
    seed: int,
    step: int,
) -> Scored:
    """Sample and score the completions of a step. Every prompt comes once before any comes twice."""
    count = len(engine.prompts)
    chosen = [
        permutation(count, seed_for(seed, "order", turn // count))[turn % count]
        for turn in range(step * prompts_per_step, (step + 1) * prompts_per_step)
    ]
    rows = prompts_per_step * samples_per_prompt
    batch = PromptBatch(
        tuple(engine.prompts[prompt] for prompt in chosen),
        samples_per_prompt,
        tuple(seed_for(seed, "rollout", step, row) for row in range(rows)),
    )
    rollout = engine.sample(batch, Sampling(64, problem.temperature), lambda: None)
    prompts = torch.tensor([batch.prompt_of(row).tokens[0] for row in range(rows)])
    scores = problem.scores[prompts, engine.final_states(rollout)]
    distance = measure_distance(rollout, engine, rows, lambda: None, keep_hidden=kl == "exact")
    return Scored(
        rollout=rollout,
        scores=scores,
        distance=distance,
        beta=problem.beta,
        rewards=token_rewards(scores, penalty(distance, kl), problem.beta, rollout.completion_mask),
        learnable=torch.ones_like(rollout.truncated),
        values=read_values(rollout, engine, rows) if needs_value else None,
    )
