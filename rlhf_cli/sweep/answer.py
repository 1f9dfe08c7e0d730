"""The answer of a sweep: its points by reward and KL, the recommended one, and why."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median_low
from typing import Any

from rlhf_cli.evaluation.oracle import Oracle
from rlhf_cli.sweep.choice import choose, find_gains, find_pareto_front, level
from rlhf_cli.sweep.found import explain_search
from rlhf_cli.sweep.outcome import LeftOut, Outcome, read_trial
from rlhf_cli.sweep.points import Point, build_point, candidate_of, gain_of
from rlhf_cli.sweep.power import Needed, calculate_needed
from rlhf_cli.sweep.reach import reach, reference_of, task_of
from rlhf_cli.sweep.reason import explain_choice, explain_no_gain, explain_yardstick
from rlhf_cli.sweep.record import SweepRecord, SweptSettings, group_by_point


@dataclass(frozen=True, slots=True)
class Grid:
    """The points of a sweep of two keys, as a table."""

    keys: tuple[str, str]
    """The key of the columns, and that of the rows."""
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    numbers: tuple[tuple[int | None, ...], ...]
    """The points' numbers, row by row; None where no trial is finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of a sweep; without a finished trial, little more than why there is none."""

    folder: str
    command: str
    """Repeats and continues the sweep."""
    beta: float | None = None
    """The beta at which all points are compared, J = reward - beta KL; None where no trial is finished."""
    points: tuple[Point, ...] = ()
    """The points with a finished trial, in the sweep's order."""
    recommended: int | None = None
    """The number of a point; None where none can be recommended."""
    reason: tuple[str, ...]
    """The reasons for which that point is recommended or none is, in sentences."""
    needed: Needed | None = None
    """Prompts, seeds and steps that would show a gain, where no point clearly gains over the untouched policy."""
    warnings: tuple[str, ...] = ()
    """Doubts about the comparison, in sentences."""
    oracle: Oracle | None = None
    """The best that training could have reached."""
    no_oracle: str | None = None
    """The reason for which there is no oracle; None where there is one."""
    grid: Grid | None = None
    """None unless exactly two keys are swept, and most combinations of their values tried."""
    left_out: tuple[LeftOut, ...]
    """The trials without an outcome."""

    def point(self, number: int | None) -> Point | None:
        """The point of a number."""
        return next((point for point in self.points if point.number == number), None)

    def row(self) -> dict[str, Any]:
        """Plain data for JSON; numbers may not be finite."""
        left_out = [asdict(one) | {"log": one.log and str(one.log)} for one in self.left_out]
        return asdict(self) | {"left_out": left_out, "no_oracle": self.no_oracle or ""}


def answer(sweep: SweepRecord) -> Answer:
    """Read the trials' folders and recommend a point; lists the trials that are not finished or cannot be read."""
    trials = {trial.name: read_trial(sweep, trial) for trial in sweep.trials}
    groups = {
        settings: [trials[trial.name] for trial in members]
        for settings, members in group_by_point(sweep.trials).items()
    }
    finished = {key: [one for one in group if isinstance(one, Outcome)] for key, group in groups.items()}
    outcomes = [outcome for group in finished.values() for outcome in group]
    left_out = tuple(one for one in trials.values() if isinstance(one, LeftOut))
    if not outcomes:
        return Answer(
            folder=str(sweep.folder),
            command=sweep.command,
            reason=("No trial is finished and evaluated.",),
            no_oracle="no trial is finished",
            left_out=left_out,
        )
    betas = sorted({outcome.last.beta for outcome in outcomes})
    beta = median_low(betas) if sweep.compare_at is None else sweep.compare_at
    oracle, no_oracle = reach(outcomes, beta)
    points = _points(groups, finished, beta, oracle)
    recommended, reason, needed = _recommend(finished, points, beta)
    if sweep.search is not None:
        candidates = [candidate_of(group) for group in finished.values() if group]
        reason = (*explain_search(sweep, points, candidates, beta, left_out), *reason)
    return Answer(
        folder=str(sweep.folder),
        command=sweep.command,
        beta=beta,
        points=points,
        recommended=recommended,
        reason=reason,
        needed=needed,
        warnings=tuple(_warnings(outcomes, points)),
        oracle=oracle,
        no_oracle=no_oracle,
        grid=_grid(list(groups), [bool(group) for group in finished.values()]),
        left_out=left_out,
    )


_Finished = dict[SweptSettings, list[Outcome]]
"""The finished trials of each point, in the sweep's order; empty for a point without any."""


def _points(
    groups: dict[SweptSettings, list[Outcome | LeftOut]], finished: _Finished, beta: float, oracle: Oracle | None
) -> tuple[Point, ...]:
    candidates = [candidate_of(group) for group in finished.values() if group]
    levels = [[level(each, lambda last: last.kl), level(each, lambda last: last.reward)] for each in candidates]
    front = iter(find_pareto_front([(kl.mean, reward.mean) for kl, reward in levels]))
    curve = oracle.curve if oracle else ()
    return tuple(
        build_point(number, settings, len(groups[settings]), group, beta, curve, next(front))
        for number, (settings, group) in enumerate(finished.items(), start=1)
        if group
    )


def _recommend(
    finished: _Finished, points: Sequence[Point], beta: float
) -> tuple[int | None, tuple[str, ...], Needed | None]:
    """The number of the recommended point; why, in sentences; and what would show a gain where nothing does."""
    groups = [group for group in finished.values() if group]
    outcomes = [outcome for group in groups for outcome in group]
    if any(task_of(one.config) != task_of(outcomes[0].config) for one in outcomes):
        return None, ("The trials do not share reward, data and evaluate.prompts: their J cannot be compared.",), None
    yardstick = explain_yardstick(beta, sorted({outcome.last.beta for outcome in outcomes}))
    gains = [gain_of(group, beta) for group in groups]
    if not find_gains(gains):
        place, best = max(((i, gain) for i, gain in enumerate(gains) if gain), key=lambda pair: pair[1].interval.mean)
        needed = calculate_needed(best, sum(gain is not None for gain in gains), groups[place][0].last.step)
        shape = groups[place][0].config.evaluate.prompts, best.squares.seeds, groups[place][0].last.step
        return None, explain_no_gain(needed, points[place], yardstick, shape), needed
    candidates = [candidate_of(group) for group in groups]
    choices = []
    for at in (beta, beta / 2, beta * 2) if beta else (beta,):
        among = find_gains([gain_of(group, at) for group in groups])
        choices.append(choose(candidates, at, among) if among else None)
    chosen = choices[0]
    assert chosen is not None  # there are gains at beta itself
    return points[chosen.chosen].number, explain_choice(chosen, choices[1:], points, yardstick), None


def _warnings(outcomes: Sequence[Outcome], points: Sequence[Point]) -> list[str]:
    warnings = []
    steps = sorted({outcome.last.step for outcome in outcomes})
    if len(steps) > 1 and not any(key == "steps" for point in points for key, _ in point.told):
        warnings.append(f"Trials were evaluated last at different steps ({', '.join(map(str, steps))}).")
    if any(reference_of(one.config) != reference_of(outcomes[0].config) for one in outcomes):
        warnings.append("The trials differ in their reference: the KL of each is to its own.")
    if above := [point.title for point in points if point.above]:
        warnings.append(
            f"{', '.join(above)}: clearly above the optimum's curve, where no policy can be. Do not trust the curve "
            "or these evaluations before you know why."
        )
    return warnings


def _grid(settings: Sequence[SweptSettings], has_outcome: Sequence[bool]) -> Grid | None:
    """The table of the points; None unless they have the same two keys, each with two values at least, and fill most.

    A search of an interval would have a column a point.
    """
    keys = {tuple(key for key, _ in pairs) for pairs in settings}
    if len(keys) != 1 or len(names := next(iter(keys))) != 2:
        return None
    columns, rows = (_ordered([pairs[place][1] for pairs in settings]) for place in (0, 1))
    if min(len(columns), len(rows)) < 2 or 2 * len(settings) <= len(columns) * len(rows):
        return None
    numbers = {
        (pairs[0][1], pairs[1][1]): number
        for number, (pairs, is_there) in enumerate(zip(settings, has_outcome, strict=True), start=1)
        if is_there
    }
    table = tuple(tuple(numbers.get((column, row)) for column in columns) for row in rows)
    return Grid((names[0], names[1]), tuple(columns), tuple(rows), table)


def _ordered(values: Sequence[str]) -> list[str]:
    """Each value once: numbers by size, others in the order they came."""
    unique = list(dict.fromkeys(values))
    try:
        return sorted(unique, key=float)
    except ValueError:
        return unique
