"""Count how often the intervals that a run prints hold the truth (docs/statistics.md).

Held-out figures are means over prompts: each prompt has a level of its own, and its completions score 0 or 1 around it,
which is far from normal. J* is estimated from completions of the reference, prompts fixed.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from random import Random
from statistics import fmean
from typing import Any

from rlhf_cli.evaluation.dial import dial
from rlhf_cli.evaluation.evaluation import Completions, Evaluation
from rlhf_cli.evaluation.intervals import Estimate, Share, estimate, share_of
from rlhf_cli.evaluation.optimum import frontier, unknown


def levels(source: Random, prompts: int) -> list[float]:
    """The chance of a score of 1 for each prompt: most are near 0 or 1."""
    return [source.betavariate(0.5, 0.8) for _ in range(prompts)]


def mean_holds(source: Random, prompts: int, samples: int) -> bool:
    """Whether the t interval of a mean holds it; the mean of Beta(0.5, 0.8) is 0.5 / 1.3."""
    return _holds(estimate(_means(source, levels(source, prompts), samples)), 0.5 / 1.3)


def share_holds(source: Random, prompts: int, samples: int) -> bool:
    """Whether the interval of the same mean as a share holds it."""
    means = _means(source, levels(source, prompts), samples)
    return _holds(share_of(fmean(means), means, prompts * samples), 0.5 / 1.3)


def rare_mean_holds(source: Random, prompts: int, samples: int) -> bool:
    """Whether the t interval of a rare share holds it: the mean of Beta(0.2, 9.8) is 0.02."""
    return _holds(estimate(_rare_means(source, prompts, samples)), 0.02)


def rare_share_holds(source: Random, prompts: int, samples: int) -> bool:
    """Whether its interval as a share holds it."""
    means = _rare_means(source, prompts, samples)
    return _holds(share_of(fmean(means), means, prompts * samples), 0.02)


def _rare_means(source: Random, prompts: int, samples: int) -> list[float]:
    return _means(source, [source.betavariate(0.2, 9.8) for _ in range(prompts)], samples)


def _means(source: Random, chances: list[float], samples: int) -> list[float]:
    return [fmean(source.random() < chance for _ in range(samples)) for chance in chances]


def _holds(found: Estimate | Share, truth: float) -> bool:
    return found.low <= truth <= found.high


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


class Problem:
    """A prompt with so few completions that the optimum at every beta is known."""

    def __init__(self, source: Random) -> None:
        weights = [math.exp(source.gauss(0, 1)) for _ in range(60)]
        self.reference = [weight / sum(weights) for weight in weights]
        self.rewards = [source.random() for _ in weights]

    def optimum(self, beta: float) -> list[float]:
        """Probabilities of the optimum, ref exp(r / beta) / Z."""
        tilted = [p * math.exp(r / beta) for p, r in zip(self.reference, self.rewards, strict=True)]
        return [weight / sum(tilted) for weight in tilted]

    def objective(self, beta: float) -> float:
        """J* = beta log Z."""
        terms = zip(self.reference, self.rewards, strict=True)
        return beta * math.log(math.fsum(p * math.exp(r / beta) for p, r in terms))


def dial_holds(source: Random, problems: list[Problem], own: float, beta: float, truth: float) -> bool:
    """Whether J of the optimum at `own`, turned to `beta`, has an interval that holds J* there, on 32 prompts."""
    chosen, samples = source.choices(problems, k=32), 32
    drawn: dict[str, Any] = {"own": Completions([], [], []), "other": Completions([], [], [])}
    for problem in chosen:
        policy = problem.optimum(own)
        for completions, sampler in ((drawn["own"], policy), (drawn["other"], problem.reference)):
            places = source.choices(range(len(policy)), sampler, k=samples)
            completions.reward.append([problem.rewards[place] for place in places])
            completions.logprob.append([math.log(policy[place]) for place in places])
            completions.ref_logprob.append([math.log(problem.reference[place]) for place in places])
    (point,) = dial(evaluation_of(drawn["own"], drawn["other"], own), [beta])
    return point.objective is not None and point.objective.low <= truth <= point.objective.high


def evaluation_of(own: Completions, other: Completions, beta: float) -> Evaluation:
    """An evaluation with these completions; what the dial does not read is empty."""
    columns = asdict(own)
    return Evaluation(1, beta, [*range(len(own.reward))], 0, columns["reward"], [], [], [], [], columns["logprob"],
                      columns["ref_logprob"], other, unknown(""))  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure the coverage of intervals.")
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    print("| interval | prompts | samples | holds the truth |\n|---|---|---|---|")
    for name, holds in (
        ("a held-out mean", mean_holds),
        ("a change, paired by prompt", change_holds),
        ("a share of 0.38", share_holds),
        ("a share of 0.02", rare_share_holds),
        ("a share of 0.02, by t", rare_mean_holds),
    ):
        for prompts, samples in ((8, 4), (16, 4), (64, 4)):
            source = Random(0)
            share = fmean(holds(source, prompts, samples) for _ in range(draws))
            print(f"| {name} | {prompts} | {samples} | {100 * share:.1f} % |", flush=True)
    for beta, samples in ((1.0, 64), (0.5, 64), (0.5, 256), (0.25, 64), (0.25, 256)):
        source = Random(0)
        share = fmean(optimum_holds(source, beta, samples) for _ in range(draws // 4))
        print(f"| J* at β = {beta:g} | 8 | {samples} | {100 * share:.1f} % |", flush=True)
    problems = [Problem(Random(number)) for number in range(1000)]
    for own in (0.15, 0.08):
        for factor in (0.25, 0.5, 1.25, 2.0, 8.0):
            source, beta = Random(0), own * factor
            truth = fmean(problem.objective(beta) for problem in problems)
            share = fmean(dial_holds(source, problems, own, beta, truth) for _ in range(draws // 4))
            print(f"| J at β = {beta:g}, from a run at {own:g} | 32 | 2 x 32 | {100 * share:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
