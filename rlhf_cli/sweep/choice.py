"""Choose a point of a sweep: the Pareto front of reward against KL, and the rule of one standard error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rlhf_cli.evaluation.contrasts import Contrast, contrast, holm, optimism_of_best
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
    differences: tuple[Contrast | None, ...]
    """J of the best point minus that of each, paired by seed and prompt; None for the best, for a point that was not
    to be chosen, and where nothing can be paired."""
    alike: tuple[int, ...]
    """Points about as good as the best, in falling order of J: within one standard error, or above such a point."""
    optimism: float
    """The amount by which the best J is too high on average, if all points are equal: it was chosen for being high."""


def level(candidate: Candidate, values: Callable[[HeldOut], Mapping[int, float]]) -> Estimate:
    """The mean of some values of the evaluations, with its interval as in `average`."""
    return average({seed: values(last) for seed, last in candidate.items()})


def average(values: Values) -> Estimate:
    """The mean with its interval: over prompts for a single seed, over the means of the seeds for several."""
    means = [fmean(of_seed.values()) for of_seed in values.values()]
    return estimate(means) if len(means) > 1 else estimate([*next(iter(values.values())).values()])


def find_pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether, of each point (KL, reward), no other is better in one of the two, and at least as good in the other."""
    return [
        not any(kl <= own_kl and reward >= own and (kl < own_kl or reward > own) for kl, reward in points)
        for own_kl, own in points
    ]


def paired_difference(a: Values, b: Values) -> Contrast | None:
    """a - b on the seeds and prompts of both; None without a seed, or with fewer than two prompts."""
    return contrast(
        {
            seed: {prompt: a[seed][prompt] - b[seed][prompt] for prompt in a[seed].keys() & b[seed].keys()}
            for seed in a.keys() & b.keys()
        }
    )


def find_gains(gains: Sequence[Contrast | None]) -> list[int]:
    """The places of the points that clearly gain over their untouched policy, by Holm's rule over all that have one.

    None is a point whose untouched policy was not evaluated. Where that is so of all points, all may be chosen.
    """
    known = [(place, gain) for place, gain in enumerate(gains) if gain]
    rejected = holm([gain.p for _, gain in known])
    clear = [place for (place, gain), sure in zip(known, rejected, strict=True) if sure and gain.interval.mean > 0]
    return clear if known else [*range(len(gains))]


def choose(candidates: Sequence[Candidate], beta: float, among: Sequence[int] | None = None) -> Choice:
    """Choose the point with the least KL among those within one standard error of the best.

    Only the places `among` are considered, at least one; all where it is None. The rule of Breiman et al. 1984,
    "Classification and regression trees", section 3.4.3, with the KL for the size of a tree, and the error of the
    paired difference.
    """
    objectives = [{seed: last.objective(beta) for seed, last in candidate.items()} for candidate in candidates]
    means = [average(objective).mean for objective in objectives]
    order = sorted(range(len(candidates)) if among is None else among, key=lambda i: -means[i])
    best = order[0]
    differences = [
        paired_difference(objectives[best], own) if i in order[1:] else None for i, own in enumerate(objectives)
    ]
    within = [place for place, i in enumerate(order) if (d := differences[i]) and d.interval.mean <= d.error]
    alike = order[1 : max(within, default=0) + 1]
    # min takes the first of equals, which is the one with the highest J
    chosen = min([best, *alike], key=lambda i: level(candidates[i], lambda last: last.kl).mean)
    runner_up = order[1] if len(order) > 1 else None
    errors = [difference.error for difference in differences if difference]
    optimism = optimism_of_best(errors) if errors else 0.0
    return Choice(beta, chosen, best, runner_up, tuple(differences), tuple(alike), optimism)
