"""Count how often the interval of the percentage of the optimum holds the truth (docs/how-it-works.md).

Every draw takes fresh prompts, each with 30 completions of known probability and reward, and samples the reference and
a policy that is the optimum of another beta. The truth is E[J - J_ref] / E[J* - J_ref] over many such prompts. A row
says how often a percentage is printed, how far it is off on average, and how often its 95 % interval holds the truth.
"""

from __future__ import annotations

import argparse
import math
from random import Random
from statistics import fmean, stdev
from typing import NamedTuple

from rlhf_cli.evaluation.optimum import Draw, Optimum, PromptDraws, optimum

COMPLETIONS = 30
BETA = 0.25
POPULATION = 4000
"""Prompts from which the truth is calculated."""


class Known(NamedTuple):
    """A prompt whose completions can be counted."""

    reference: list[float]
    rewards: list[float]

    @classmethod
    def draw(cls, source: Random) -> Known:
        """Log-normal probabilities, normal rewards below 1 whose mean differs by prompt."""
        weights = [math.exp(1.5 * source.gauss(0, 1)) for _ in range(COMPLETIONS)]
        level = 0.1 * source.gauss(0, 1)
        rewards = [min(level + 0.25 * source.gauss(0, 1), 1.0) for _ in range(COMPLETIONS)]
        return cls([weight / sum(weights) for weight in weights], rewards)

    def tilted(self, beta: float) -> tuple[list[float], float]:
        """The optimum at `beta`, and log Z."""
        weights = [q * math.exp(r / beta) for q, r in zip(self.reference, self.rewards, strict=True)]
        total = sum(weights)
        return [weight / total for weight in weights], math.log(total)

    def gains(self, policy: list[float], log_z: float) -> tuple[float, float]:
        """J - J_ref of the policy, and J* - J_ref."""
        base = sum(q * r for q, r in zip(self.reference, self.rewards, strict=True))
        mean = sum(p * r for p, r in zip(policy, self.rewards, strict=True))
        return mean - BETA * self.kl(policy) - base, BETA * log_z - base

    def kl(self, policy: list[float]) -> float:
        """KL(policy || reference), nats."""
        return sum(p * math.log(p / q) for p, q in zip(policy, self.reference, strict=True))

    def sample(self, source: Random, count: int, policy: list[float]) -> PromptDraws:
        """`count` completions of the reference, and as many of the policy."""

        def draws(weights: list[float]) -> list[Draw]:
            rows = source.choices(range(COMPLETIONS), weights, k=count)
            return [Draw(self.rewards[i], math.log(policy[i]), math.log(self.reference[i])) for i in rows]

        return PromptDraws(draws(self.reference), draws(policy), self.kl(policy))


def measure(policy_beta: float, prompts: int, samples: int, draws: int) -> str:
    """A row of the table."""
    source = Random(0)
    exact = [
        (known, known.tilted(BETA)[1], known.tilted(policy_beta)[0]) for known in map(Known.draw, [source] * POPULATION)
    ]
    pairs = [known.gains(policy, log_z) for known, log_z, policy in exact]
    truth = 100 * fmean(gain for gain, _ in pairs) / fmean(gap for _, gap in pairs)
    printed: list[Optimum] = []
    for _ in range(draws):
        chosen = [Known.draw(source) for _ in range(prompts)]
        found = optimum([k.sample(source, samples, k.tilted(policy_beta)[0]) for k in chosen], BETA, math.inf)
        printed += [found] if found.percent is not None else []
    errors = [found.percent - truth for found in printed if found.percent is not None]
    held = [found.low <= truth <= found.high for found in printed if found.low is not None and found.high is not None]
    if len(errors) < 2:
        return f"| {truth:.0f} % | {prompts} | {samples} | {len(printed) / draws:.0%} | | | |"
    width = fmean(found.high - found.low for found in printed if found.low is not None and found.high is not None) / 2
    return (
        f"| {truth:.0f} % | {prompts} | {samples} | {len(printed) / draws:.0%} | {fmean(errors):+.1f} ± "
        f"{2 * stdev(errors) / math.sqrt(len(errors)):.1f} | {width:.0f} | {fmean(held):.0%} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure the interval of the percentage of the optimum.")
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    print("| truth | prompts | samples | printed | error, points | half-width | holds the truth |")
    print("|---|---|---|---|---|---|---|")
    for policy_beta, prompts, samples in ((0.5, 16, 64), (0.5, 64, 64), (1.0, 16, 64), (4.0, 16, 64), (0.5, 16, 256)):
        print(measure(policy_beta, prompts, samples, options.draws), flush=True)


if __name__ == "__main__":
    main()
