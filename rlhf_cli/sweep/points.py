"""The points of a sweep: the mean levels of the trials that differ in nothing but the seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from rlhf_cli.evaluation.contrasts import Contrast, contrast
from rlhf_cli.evaluation.intervals import Estimate
from rlhf_cli.evaluation.oracle import CurvePoint
from rlhf_cli.schedules import Controlled, Planned
from rlhf_cli.schedules.constant import Constant
from rlhf_cli.sweep.choice import Candidate, level
from rlhf_cli.sweep.outcome import Outcome
from rlhf_cli.sweep.reach import is_above
from rlhf_cli.sweep.record import SweptSettings, Trial, name_of


@dataclass(frozen=True, slots=True)
class Point:
    """Trials that differ in nothing but the seed; the levels are of the last evaluation of each finished one."""

    number: int
    """From 1, in the sweep's order."""
    name: str
    """Tells it from the other points: `beta=0.1,temperature=1`."""
    told: SweptSettings
    """The settings of the name, by key."""
    trials: int
    """Finished or not."""
    finished: tuple[Trial, ...]
    beta: str
    """Beta of the training: `0.1`, `0.2→0.05`, `adaptive`."""
    temperature: str
    """Temperature of the training, in the same form."""
    over: Literal["prompts", "seeds"]
    """The values that the intervals are over: the prompts of a single seed, or the means of several seeds."""
    objective: Estimate
    """J at the answer's beta."""
    reward: Estimate
    kl: Estimate
    """Exact KL(policy || reference), nats."""
    length: Estimate
    """Tokens."""
    change: Estimate | None
    """Change of J from the untouched policy, paired by seed and prompt; None where that was not evaluated."""
    pareto: bool
    """Whether no other point has at least its reward at no more KL."""
    above: bool
    """Whether all of the reward's interval is above the optimum at this KL, as far as samples cover the curve."""
    held_out: tuple[tuple[int, float], ...]
    """J at the answer's beta by step, at the evaluations that all its trials have."""
    training: tuple[tuple[int, float], ...]
    """J of the steps' own completions by step, at the temperature they were sampled with."""

    @property
    def title(self) -> str:
        """The point as a sentence names it; a long name may be broken into lines."""
        return f"point {self.number} ({self.name.replace(',', ', ')})"


def candidate_of(outcomes: Sequence[Outcome]) -> Candidate:
    """The last evaluations, by seed."""
    return {outcome.config.seed: outcome.last for outcome in outcomes}


def build_point(
    number: int,
    settings: SweptSettings,
    trials: int,
    outcomes: Sequence[Outcome],
    beta: float,
    curve: Sequence[CurvePoint],
    pareto: bool,
) -> Point:
    """The point of some outcomes; `beta` is the answer's, `curve` that of the optimum."""
    config, candidate = outcomes[0].config, candidate_of(outcomes)
    reward, kl = level(candidate, lambda last: last.reward), level(candidate, lambda last: last.kl)
    return Point(
        number=number,
        name=name_of(dict(settings)),
        told=settings,
        trials=trials,
        finished=tuple(outcome.trial for outcome in outcomes),
        beta=_schedule(config.beta),
        temperature=_schedule(config.temperature),
        over="seeds" if len(outcomes) > 1 else "prompts",
        objective=level(candidate, lambda last: last.objective(beta)),
        reward=reward,
        kl=kl,
        length=level(candidate, lambda last: last.length),
        change=gain.interval if (gain := gain_of(outcomes, beta)) else None,
        pareto=pareto,
        above=is_above(curve, kl.mean, reward.low),
        held_out=_by_step([{e.step: fmean(e.objective(beta).values()) for e in one.evaluations} for one in outcomes]),
        training=_by_step([{s: reward - beta * kl for s, (reward, kl) in one.training.items()} for one in outcomes]),
    )


def gain_of(outcomes: Sequence[Outcome], beta: float) -> Contrast | None:
    """Change of J from the untouched policy, on the prompts of both evaluations; None where that was not evaluated."""
    changes: dict[int, dict[int, float]] = {}
    for outcome in outcomes:
        if outcome.first is None:
            return None
        before, after = outcome.first.objective(beta), outcome.last.objective(beta)
        changes[outcome.config.seed] = {prompt: after[prompt] - before[prompt] for prompt in after if prompt in before}
    return contrast(changes)


def _by_step(curves: Sequence[Mapping[int, float]]) -> tuple[tuple[int, float], ...]:
    """The mean of several curves at the steps that all of them have."""
    common = set.intersection(*(set(curve) for curve in curves))
    return tuple((step, fmean(curve[step] for curve in curves)) for step in sorted(common))


def _schedule(schedule: Planned | Controlled) -> str:
    if isinstance(schedule, Controlled):
        return schedule.kind
    return f"{schedule.value:g}" if isinstance(schedule, Constant) else f"{schedule.start:g}→{schedule.end:g}"
