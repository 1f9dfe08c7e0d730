"""Count how often the intervals that a run prints hold the truth (docs/statistics.md).

Held-out figures are means over prompts: each prompt has a level of its own, and its completions score 0 or 1 around it,
which is far from normal. J* is estimated from completions of the reference, prompts fixed.
"""

from __future__ import annotations

import argparse
import math
from random import Random
from statistics import fmean

from rlhf_cli.evaluation.intervals import estimate
from rlhf_cli.evaluation.optimum import frontier


def levels(source: Random, prompts: int) -> list[float]:
    """The chance of a score of 1 for each prompt: most are near 0 or 1."""
    return [source.betavariate(0.5, 0.8) for _ in range(prompts)]


def mean_holds(source: Random, prompts: int, samples: int) -> bool:
    """Whether the interval of a mean holds it; the mean of Beta(0.5, 0.8) is 0.5 / 1.3."""
    means = [fmean(source.random() < level for _ in range(samples)) for level in levels(source, prompts)]
    found = estimate(means)
    return found.low <= 0.5 / 1.3 <= found.high


def change_holds(source: Random, prompts: int, samples: int) -> bool:
    """Whether the interval of a change, paired by prompt, holds it: half of what is left to 1, 0.4 / 1.3 on average."""
    changes = []
    for level in levels(source, prompts):
        before = fmean(source.random() < level for _ in range(samples))
        after = fmean(source.random() < (1 + level) / 2 for _ in range(samples))
        changes.append(after - before)
    found = estimate(changes)
    return found.low <= 0.4 / 1.3 <= found.high


def optimum_holds(source: Random, beta: float, samples: int) -> bool:
    """Whether J* ± 1.96 standard errors holds J* of eight prompts whose scores are 0 or 1."""
    chances = [0.1 + 0.1 * prompt for prompt in range(8)]
    truth = beta * fmean(math.log(1 - chance + chance * math.exp(1 / beta)) for chance in chances)
    found = frontier([[float(source.random() < chance) for _ in range(samples)] for chance in chances], beta)
    return abs(found.optimum - truth) <= 1.96 * found.optimum_se


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure the coverage of intervals.")
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    print("| interval | prompts | samples | holds the truth |\n|---|---|---|---|")
    for name, holds in (("a held-out mean", mean_holds), ("a change, paired by prompt", change_holds)):
        for prompts, samples in ((8, 4), (16, 4), (64, 4)):
            source = Random(0)
            share = fmean(holds(source, prompts, samples) for _ in range(draws))
            print(f"| {name} | {prompts} | {samples} | {100 * share:.1f} % |", flush=True)
    for beta, samples in ((1.0, 64), (0.5, 64), (0.5, 256), (0.25, 64), (0.25, 256)):
        source = Random(0)
        share = fmean(optimum_holds(source, beta, samples) for _ in range(draws // 4))
        print(f"| J* at β = {beta:g} | 8 | {samples} | {100 * share:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
