"""The votes of people on a run's completions, step by step, and the pairs on which they and the reward disagree."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final

from rlhf_cli.charts.pictures import Chart, Series
from rlhf_cli.errors import UserError
from rlhf_cli.feedback.from_runs import labelled_files, step_of, titles_of
from rlhf_cli.feedback.pairs import Pair, read_pairs
from rlhf_cli.feedback.readings import undone_files
from rlhf_cli.feedback.results import Result, describe_results, read_results
from rlhf_cli.feedback.votes import VoteFile
from rlhf_cli.report.series import with_intervals

SHOWN: Final = 3
"""Pairs of a comparison that a page shows."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A pair on which people prefer the completion with the lower reward."""

    gap: float
    """Between the rewards."""
    prompt: str
    preferred: tuple[str, str]
    """Its title, with its reward, and the text."""
    other: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Labelled:
    """The votes on one comparison: of the policy at several steps with the reference, or of two runs."""

    lines: Sequence[tuple[str, str]]
    charts: Sequence[Chart]
    """By step, where several have votes."""
    disagreements: Sequence[Disagreement]
    """Those with the largest gap between the rewards first."""


def labelled(run: Path) -> list[Labelled]:
    """The votes on a run's completions; files that cannot be read are passed over."""
    undone = undone_files(run)
    files = [file for file in labelled_files(run) if file not in undone]
    results = [one for one in read_results(files, titles_of) if one.cast.lines]
    own = [one for one in results if "-against-" not in one.pairs.name]
    others = [[one] for one in results if one not in own]
    found = [_labelled(group) for group in ([own] if own else []) + others]
    if lost := sum(map(_count_votes, undone)):
        what = "votes on texts of steps that were done again with other texts, or of changed lines of queue.jsonl"
        found.append(Labelled([("not counted", f"{lost} {what}")], [], []))
    return found


def _labelled(results: Sequence[Result]) -> Labelled:
    disagreements = [pair for one in results for pair in _disagreements(one)]
    largest = sorted(disagreements, key=lambda pair: -pair.gap)[:SHOWN]
    return Labelled(list(describe_results(results)), _charts(results), largest)


def _charts(results: Sequence[Result]) -> list[Chart]:
    """The win rate by step, as people and as the reward see it, and how far they agree."""
    voted = [one for one in results if one.tally.votes]
    if len(voted) < 2:
        return []
    steps = [float(step_of(one.pairs)) for one in voted]
    reward = [_reward_wins(read_pairs(one.pairs)) for one in voted]
    win_rate = [
        with_intervals("people", steps, [one.tally.win_rate for one in voted], style="points"),
        Series("the reward, on the same pairs", steps, reward),
    ]
    charts = [Chart("The policy wins", "step", "share of prompts", win_rate)]
    agreed = [(step, one.tally.agreement) for step, one in zip(steps, voted, strict=True) if one.tally.agreement]
    if agreed:
        series = with_intervals("", [step for step, _ in agreed], [share for _, share in agreed], style="points")
        charts.append(Chart("People agree with the reward", "step", "share of pairs", [series]))
    return charts


def _reward_wins(pairs: Sequence[Pair]) -> float:
    """The share of pairs whose first completion has the higher reward; equal ones count half. NaN without rewards."""
    gaps = [pair.rewards[0] - pair.rewards[1] for pair in pairs if pair.rewards is not None]
    return fmean((1 + (gap > 0) - (gap < 0)) / 2 for gap in gaps) if gaps else float("nan")


def _disagreements(result: Result) -> list[Disagreement]:
    """The pairs whose votes are on the other side than the reward."""
    standings = [result.cast.of(rater).valid for rater in result.cast.raters()]
    found = []
    for pair in read_pairs(result.pairs):
        scores = [s[pair.id].score for s in standings if pair.id in s]
        lean = sum(score - 0.5 for score in scores if score is not None)
        if pair.rewards is None or lean * (gap := pair.rewards[0] - pair.rewards[1]) >= 0:
            continue
        sides = [
            (f"{title} (reward {reward:.3f})", text)
            for title, reward, text in zip(result.titles, pair.rewards, (pair.a, pair.b), strict=True)
        ]
        preferred, other = sides if lean > 0 else reversed(sides)
        found.append(Disagreement(abs(gap), pair.prompt, preferred, other))
    return found


def _count_votes(file: Path) -> int:
    try:
        return len(VoteFile(file).read().lines)
    except (UserError, OSError):
        return 0
