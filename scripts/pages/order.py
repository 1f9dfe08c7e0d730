"""Compare RLOO with groups of 4 and 2, and REINFORCE with and without a baseline: percent of the optimum, by seed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

import torch

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.ppo import Ppo
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.demo.climb import climb
from rlhf_cli.demo.problem import Problem, random_problem
from rlhf_cli.engine.tabular import TabularEngine
from rlhf_cli.evaluation.intervals import Estimate, estimate

SEEDS = range(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
STEPS, SAMPLES, LR, BETA = 300, 8, 0.05, 0.3
PROMPTS, OFFSET_MEAN, OFFSET_SPREAD = 16, 4.0, 2.0

Entrant = tuple[str, Algorithm, int]
ENTRANTS: tuple[Entrant, ...] = (
    ("RLOO, k = 4", Rloo(kind="rloo"), 4),
    ("RLOO, k = 2", Rloo(kind="rloo"), 2),
    ("REINFORCE, running mean", Reinforce(kind="reinforce", baseline="running"), 1),
    ("REINFORCE, no baseline", Reinforce(kind="reinforce", baseline="none"), 1),
)


def problem(seed: int, *, offsets: bool) -> Problem:
    """A random problem with scores spread by 1 in a prompt; `offsets`: prompts differ more than their completions."""
    plain = random_problem(prompts=PROMPTS, steps=3, tokens=3, beta=BETA, seed=seed)
    if not offsets:
        return plain
    generator = torch.Generator().manual_seed(1000 + seed)
    shift = OFFSET_MEAN + OFFSET_SPREAD * torch.randn(PROMPTS, 1, dtype=torch.float64, generator=generator)
    return replace(plain, scores=plain.scores + shift)


def percent_reached(entrant: Entrant, seed: int, *, offsets: bool) -> float:
    """Percent of the gap between the reference's J and J* that the last policy has closed."""
    _, algorithm, group = entrant
    one = problem(seed, offsets=offsets)
    policy = climb(
        one,
        algorithm,
        steps=STEPS,
        prompts_per_step=SAMPLES // group,
        samples_per_prompt=group,
        lr=LR,
        seed=seed,
    )
    return one.percent(policy)


def print_order() -> None:
    """Print both tables."""
    for offsets in (True, False):
        percents_of = {e[0]: [percent_reached(e, seed, offsets=offsets) for seed in SEEDS] for e in ENTRANTS}
        spread = f"mean {OFFSET_MEAN:g}, sd {OFFSET_SPREAD:g}" if offsets else "none"
        print(f"\nOffsets between prompts: {spread}; scores within a prompt: sd 1\n")
        print("| | percent of the optimum | better than the next by | seeds |")
        print("|---|---|---|---|")
        links = {
            a: [x - y for x, y in zip(percents_of[a], percents_of[b], strict=True)] for a, b in pairwise(percents_of)
        }
        for name, percents in percents_of.items():
            link = links.get(name)
            wins = f"{sum(d > 0 for d in link)} of {len(link)}" if link else ""
            print(
                f"| {name} | {as_text(estimate(percents))} | {as_text(estimate(link), '+') if link else ''} | {wins} |"
            )


def print_clipping() -> None:
    """Print PPO's clip fraction and its final percent of the optimum, by learning rate."""
    print("\nPPO, 4 epochs x 4 minibatches, 64 completions a step, clip_range 0.2\n")
    print("| learning rate | clip fraction, first step | mean | largest | percent of the optimum |")
    print("|---|---|---|---|---|")
    for lr in (0.01, 0.03, 0.1):
        first, means, largest, ends = [], [], [], []
        for seed in SEEDS:
            fractions: list[float] = []

            def watch(
                step: int, engine: TabularEngine, metrics: Mapping[str, float], into: list[float] = fractions
            ) -> None:
                into.append(metrics["policy/clip_fraction"])

            one = random_problem(prompts=4, steps=3, tokens=3, beta=BETA, seed=seed)
            policy = climb(
                one, PPO, steps=100, prompts_per_step=4, samples_per_prompt=16, lr=lr, seed=seed, watch=watch
            )
            first.append(fractions[0])
            means.append(fmean(fractions))
            largest.append(max(fractions))
            ends.append(one.percent(policy))
        print(
            f"| {lr:g} | {fmean(first):.3f} | {fmean(means):.3f} | {fmean(largest):.3f} | {as_text(estimate(ends))} |"
        )


PPO = Ppo(
    kind="ppo",
    clip_range=0.2,
    vf_coef=0.5,
    value_clip_range=0.2,
    gamma=1.0,
    gae_lambda=0.95,
    whiten=True,
    aggregation="token_mean",
    epochs=4,
    minibatch_size=16,
)


def as_text(value: Estimate, sign: str = "") -> str:
    """The mean and its 95 % t interval over seeds, as text."""
    return f"{value.mean:{sign}.1f} [{value.low:{sign}.1f}, {value.high:{sign}.1f}]"


if __name__ == "__main__":
    torch.set_num_threads(1)
    print_order()
    print_clipping()
