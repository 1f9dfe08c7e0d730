"""The answer that a sweep ends with: its points by reward and KL, one of them recommended, and why; plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median_low
from typing import Any, Literal

from rlhf_cli.evaluation.intervals import Estimate
from rlhf_cli.evaluation.oracle import Oracle
from rlhf_cli.schedules import Controlled, Planned
from rlhf_cli.schedules.constant import Constant
from rlhf_cli.sweep.choice import Candidate, choose, level, undominated
from rlhf_cli.sweep.outcome import HeldOut, LeftOut, Outcome, read_trial
from rlhf_cli.sweep.reach import above, reach, reference_of, task_of
from rlhf_cli.sweep.reason import reasons
from rlhf_cli.sweep.record import SweepRecord, SweptSettings, Trial, group_by_point, name_of


@dataclass(frozen=True, slots=True)
class Point:
    """What some trials share but for the seed: as the last evaluation of each of them that is finished found it."""

    number: int
    """From 1, in the sweep's order."""
    name: str
    """What tells it from the others: `beta=0.1,temperature=1`."""
    told: SweptSettings
    """The same, by key."""
    trials: int
    """All of them."""
    finished: tuple[Trial, ...]
    beta: str
    """Of the training: `0.1`, `0.2→0.05`, `adaptive`."""
    temperature: str
    """The same way."""
    over: Literal["prompts", "seeds"]
    """What the intervals are over: the prompts of a single seed, or the means of several seeds."""
    objective: Estimate
    """J at the answer's beta."""
    reward: Estimate
    kl: Estimate
    """Exact KL(policy || reference), nats."""
    length: Estimate
    """Tokens."""
    change: Estimate | None
    """Of J from the reference, paired by prompt; None where that was not evaluated."""
    pareto: bool
    """No other point has at least its reward at no more KL."""
    above: bool
    """All of the reward's interval is above the optimum at this KL, where there were samples enough to see that."""
    held_out: tuple[tuple[int, float], ...]
    """J at the answer's beta by step, at every evaluation that all its trials have."""
    training: tuple[tuple[int, float], ...]
    """The same of the steps' own completions, at the temperature they were sampled with."""

    @property
    def said(self) -> str:
        """The point as a sentence names it; a long name may be broken into lines."""
        return f"point {self.number} ({self.name.replace(',', ', ')})"


@dataclass(frozen=True, slots=True)
class Grid:
    """J of the points by the two keys that are swept."""

    keys: tuple[str, str]
    """Of the columns and of the rows."""
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    numbers: tuple[tuple[int | None, ...], ...]
    """The points, row by row; None where no trial is finished."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sweep found."""

    folder: str
    command: str
    """What repeats and continues it."""
    beta: float | None
    """The one at which all points are compared: J = reward - beta KL; None where no trial is finished."""
    points: tuple[Point, ...]
    """Those with a finished trial, in the sweep's order."""
    recommended: int | None
    """The number of a point; None where none can be recommended."""
    reason: tuple[str, ...]
    """Why, in sentences."""
    warnings: tuple[str, ...]
    """What makes the comparison doubtful, a sentence each."""
    oracle: Oracle | None
    """What training could have reached."""
    no_oracle: str | None
    """Why that is not known; None where it is."""
    grid: Grid | None
    """Where exactly two keys are swept."""
    left_out: tuple[LeftOut, ...]
    """Trials that say nothing."""

    def point(self, number: int | None) -> Point | None:
        """The point of a number."""
        return next((point for point in self.points if point.number == number), None)

    def row(self) -> dict[str, Any]:
        """Plain data, as JSON holds it but for what is not finite."""
        left_out = [asdict(one) | {"log": one.log and str(one.log)} for one in self.left_out]
        return asdict(self) | {"left_out": left_out, "no_oracle": self.no_oracle or ""}


def answer(sweep: SweepRecord) -> Answer:
    """What the folders of its trials say; a trial that is not finished or cannot be read is left out, and listed."""
    found = {trial.name: read_trial(sweep, trial) for trial in sweep.trials}
    groups = group_by_point(sweep.trials)
    of_point = {told: _finished(found, trials) for told, trials in groups.items()}
    numbers = [number for number, outcomes in enumerate(of_point.values(), start=1) if outcomes]
    every = [outcome for outcomes in of_point.values() for outcome in outcomes]
    left_out = tuple(one for one in found.values() if isinstance(one, LeftOut))
    if not every:
        why: tuple[str, ...] = ("No trial is finished and evaluated.",)
        return Answer(
            str(sweep.folder), sweep.command, None, (), None, why, (), None, "no trial is finished", None, left_out
        )
    beta = median_low(sorted({outcome.last.beta for outcome in every}))
    oracle, no_oracle = reach(every, beta)
    candidates = [_candidate(outcomes) for outcomes in of_point.values() if outcomes]
    levels = [(level(one.kl), level(one.reward)) for one in candidates]
    front = undominated([(kl.mean, reward.mean) for kl, reward in levels])
    curve = oracle.curve if oracle else ()
    tables = tuple(
        _point(number, told, len(groups[told]), of_point[told], beta, pareto, above(curve, kl.mean, reward.low))
        for number, told, pareto, (kl, reward) in zip(
            numbers, [told for told in of_point if of_point[told]], front, levels, strict=True
        )
    )
    comparable = all(task_of(one.config) == task_of(every[0].config) for one in every)
    if comparable:
        factors = (1.0, 0.5, 2.0) if beta else (1.0,)
        choices = [choose(candidates, factor * beta) for factor in factors]
        recommended: int | None = tables[choices[0].chosen].number
        names, kls, changes = [p.said for p in tables], [p.kl.mean for p in tables], [p.change for p in tables]
        several = any(point.over == "seeds" for point in tables)
        swept = len({outcome.last.beta for outcome in every}) > 1
        why = reasons(choices, names, kls, changes, tables[choices[0].best].objective.mean, swept, several)
    else:
        recommended = None
        why = ("The trials do not share reward, data and evaluate.prompts: their J cannot be compared.",)
    return Answer(
        folder=str(sweep.folder),
        command=sweep.command,
        beta=beta,
        points=tables,
        recommended=recommended,
        reason=why,
        warnings=tuple(_warnings(every, tables)),
        oracle=oracle,
        no_oracle=no_oracle,
        grid=_grid(list(groups), [bool(outcomes) for outcomes in of_point.values()]),
        left_out=left_out,
    )


def _finished(found: Mapping[str, Outcome | LeftOut], trials: Sequence[Trial]) -> list[Outcome]:
    return [one for trial in trials if isinstance(one := found[trial.name], Outcome)]


def _candidate(outcomes: Sequence[Outcome]) -> Candidate:
    last = {one.config.seed: one.last for one in outcomes}
    return Candidate({seed: one.reward for seed, one in last.items()}, {seed: one.kl for seed, one in last.items()})


def _point(
    number: int,
    told: SweptSettings,
    trials: int,
    outcomes: Sequence[Outcome],
    beta: float,
    pareto: bool,
    is_above: bool,
) -> Point:
    config = outcomes[0].config

    def over(values: Callable[[HeldOut], Mapping[int, float]]) -> Estimate:
        return level({one.config.seed: values(one.last) for one in outcomes})

    return Point(
        number=number,
        name=name_of(dict(told)),
        told=told,
        trials=trials,
        finished=tuple(one.trial for one in outcomes),
        beta=_schedule(config.beta),
        temperature=_schedule(config.temperature),
        over="seeds" if len(outcomes) > 1 else "prompts",
        objective=over(lambda found: found.objective(beta)),
        reward=over(lambda found: found.reward),
        kl=over(lambda found: found.kl),
        length=over(lambda found: found.length),
        change=_change(outcomes, beta),
        pareto=pareto,
        above=is_above,
        held_out=_by_step([{e.step: fmean(e.objective(beta).values()) for e in one.evaluations} for one in outcomes]),
        training=_by_step([{s.step: s.reward - beta * s.kl for s in one.training} for one in outcomes]),
    )


def _change(outcomes: Sequence[Outcome], beta: float) -> Estimate | None:
    """Of J from the reference, on the prompts that both evaluations have."""
    changes: dict[int, dict[int, float]] = {}
    for one in outcomes:
        if one.first is None:
            return None
        before, after = one.first.objective(beta), one.last.objective(beta)
        changes[one.config.seed] = {prompt: after[prompt] - before[prompt] for prompt in after if prompt in before}
    return level(changes) if all(changes.values()) else None


def _by_step(curves: Sequence[Mapping[int, float]]) -> tuple[tuple[int, float], ...]:
    """The mean of several curves at the steps that all of them have."""
    common = set.intersection(*(set(curve) for curve in curves))
    return tuple((step, fmean(curve[step] for curve in curves)) for step in sorted(common))


def _schedule(schedule: Planned | Controlled) -> str:
    if isinstance(schedule, Controlled):
        return schedule.kind
    return f"{schedule.value:g}" if isinstance(schedule, Constant) else f"{schedule.start:g}→{schedule.end:g}"


def _warnings(outcomes: Sequence[Outcome], tables: Sequence[Point]) -> list[str]:
    found = []
    steps = sorted({one.last.step for one in outcomes})
    if len(steps) > 1 and not any(key == "steps" for point in tables for key, _ in point.told):
        found.append(f"Trials were evaluated last at different steps ({', '.join(map(str, steps))}).")
    if any(reference_of(one.config) != reference_of(outcomes[0].config) for one in outcomes):
        found.append("The trials differ in their model: the KL of each is to a reference of its own.")
    if higher := [point.said for point in tables if point.above]:
        found.append(
            f"{', '.join(higher)}: clearly above the optimum's curve, where no policy can be. Do not trust the curve "
            "or these evaluations before you know why."
        )
    return found


def _grid(told: Sequence[SweptSettings], finished: Sequence[bool]) -> Grid | None:
    keys = {tuple(key for key, _ in one) for one in told}
    if len(keys) != 1 or len(names := next(iter(keys))) != 2:
        return None
    columns, rows = (_ordered([one[place][1] for one in told]) for place in (0, 1))
    if min(len(columns), len(rows)) < 2:
        return None
    places = {
        (one[0][1], one[1][1]): number
        for number, (one, is_there) in enumerate(zip(told, finished, strict=True), start=1)
        if is_there
    }
    numbers = tuple(tuple(places.get((column, row)) for column in columns) for row in rows)
    return Grid((names[0], names[1]), tuple(columns), tuple(rows), numbers)


def _ordered(values: Sequence[str]) -> list[str]:
    """Each once: numbers by size, anything else in the order it came."""
    unique = list(dict.fromkeys(values))
    try:
        return sorted(unique, key=float)
    except ValueError:
        return unique
