"""Choose a point of a sweep: the Pareto front of reward against KL, and the rule of one standard error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rlhf_cli.evaluation.intervals import Estimate, estimate
from rlhf_cli.sweep.outcome import HeldOut

Values = Mapping[int, Mapping[int, float]]
"""By seed, and for each seed by the prompt's number."""
Candidate = Mapping[int, HeldOut]
"""A point: the last evaluation of the trial with each seed."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The point to take at one beta; points are given by their places in the list of candidates."""

    beta: float
    chosen: int
    best: int
    """The point with the highest J."""
    runner_up: int | None
    """The point with the second highest J."""
    differences: tuple[Estimate | None, ...]
    """J of the best point minus that of each, paired by prompt; None where nothing can be paired, and for the best."""
    alike: tuple[int, ...]
    """Points about as good as the best, in falling order of J: within one standard error, or above such a point."""


def level(candidate: Candidate, values: Callable[[HeldOut], Mapping[int, float]]) -> Estimate:
    """The mean of some values of the evaluations, with its interval as in `average`."""
    return average({seed: values(last) for seed, last in candidate.items()})


def average(values: Values) -> Estimate:
    """The mean with its interval: over prompts for a single seed, over the means of the seeds for several."""
    means = [fmean(of_seed.values()) for of_seed in values.values()]
    return estimate(means) if len(means) > 1 else estimate([*next(iter(values.values())).values()])


def find_pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each point (KL, reward): whether no other is better in one of the two, and at least as good in the other."""
    return [
        not any(kl <= own_kl and reward >= own and (kl < own_kl or reward > own) for kl, reward in points)
        for own_kl, own in points
    ]


def paired_difference(a: Values, b: Values) -> Estimate | None:
    """a - b with its interval over prompts, on the seeds and prompts of both; None for fewer than two prompts.

    All seeds have the same prompts: a prompt's difference is the mean over the seeds.
    """
    by_prompt: dict[int, list[float]] = {}
    for seed in a.keys() & b.keys():
        for prompt in a[seed].keys() & b[seed].keys():
            by_prompt.setdefault(prompt, []).append(a[seed][prompt] - b[seed][prompt])
    differences = [fmean(by_prompt[prompt]) for prompt in sorted(by_prompt)]
    return estimate(differences) if len(differences) > 1 else None


def choose(candidates: Sequence[Candidate], beta: float) -> Choice:
    """Choose the point with the least KL among those within one standard error of the best.

    The rule of Breiman et al. 1984, "Classification and regression trees", section 3.4.3, with the KL for the size of a
    tree, and the error of the paired difference.
    """
    objectives = [{seed: last.objective(beta) for seed, last in candidate.items()} for candidate in candidates]
    means = [average(objective).mean for objective in objectives]
    order = sorted(range(len(candidates)), key=lambda i: -means[i])
    best = order[0]
    differences = [None if i == best else paired_difference(objectives[best], own) for i, own in enumerate(objectives)]
    within = [place for place, i in enumerate(order) if (apart := differences[i]) and apart.mean <= apart.error]
    alike = order[1 : max(within, default=0) + 1]
    # min takes the first of equals, which is the one with the highest J
    chosen = min([best, *alike], key=lambda i: level(candidates[i], lambda last: last.kl).mean)
    runner_up = order[1] if len(order) > 1 else None
    return Choice(beta, chosen, best, runner_up, tuple(differences), tuple(alike))
