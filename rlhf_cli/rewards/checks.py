"""The checks of `rlhf reward test`: each reads scores, and says whether something is wrong or worth a look.

Scores are by the number of the completion; None stands for a completion without a usable score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, pstdev
from typing import Final, Literal

from rlhf_cli.evaluation.ranks import spearman
from rlhf_cli.rewards.execution.scorer import Scores

SAME: Final = 1e-4
"""A smaller difference, in units of the scores' spread or of one, is rounding in a network's batch."""
CORRELATED: Final = 0.5
"""A rank correlation with length that is worth a look, unless chance may give it."""
CHANCE: Final = 3.0
"""Standard errors that chance hardly reaches."""
FLAT: Final = 0.5
"""A share of groups without variance that is worth a look."""

Verdict = Literal["ok", "look", "wrong"]
ByNumber = Mapping[int, float | None]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, in words."""

    check: str
    verdict: Verdict
    said: str


def usable(results: Sequence[Scores]) -> Finding:
    """Whether every completion has a score, at the first try."""
    count = sum(len(result.values) + len(result.left_out) for result in results)
    failures = sum(result.failures for result in results)
    retries = sum(result.retries for result in results)
    repeated = f"; {retries} calls were made again" if retries else ""
    if failures:
        first = next(result.first_failure for result in results if result.first_failure)
        what = f"{failures} of {count} have no usable score; the first: {first}{repeated}"
        return Finding("exceptions", "wrong", what)
    return Finding("exceptions", "look" if retries else "ok", f"all {count} completions have a score{repeated}")


def repeatable(
    first: ByNumber, again: ByNumber, restarted: ByNumber, reseeded: ByNumber, texts: Sequence[str]
) -> Finding:
    """Whether the scores are the same when asked again, after a restart of the process, and with another seed."""
    for others, when in ((again, "asked again"), (restarted, "asked in a new process")):
        count, most, text = _differences(first, others, texts)
        if count:
            what = f"{count} of {len(others)} scores are others when {when}, by up to {most:.3g}: {text}"
            return Finding("determinism", "wrong", what)
    if not again:
        return Finding("determinism", "look", "there is no score to compare")
    count, most, _ = _differences(first, reseeded, texts)
    if count:
        what = f"repeatable, but {count} of {len(reseeded)} scores depend on the seed, by up to {most:.3g}"
        return Finding("determinism", "look", what)
    return Finding("determinism", "ok", "the same scores when asked again, and in a new process")


def independent(first: ByNumber, alone: ByNumber, texts: Sequence[str], *, is_repeatable: bool) -> Finding:
    """Whether a completion has the same score alone; only a repeatable reward can show that."""
    if not is_repeatable:
        return Finding("batch", "look", "cannot be told apart from the reward's own changes")
    count, most, text = _differences(first, alone, texts)
    if count:
        what = f"{count} of {len(alone)} scores are others when the completion is alone, by up to {most:.3g}: {text}"
        return Finding("batch", "wrong", what)
    return Finding("batch", "ok", f"{len(alone)} completions have the same score alone")


def bounded(scores: ByNumber, highest: float) -> Finding:
    """Whether no score is above the highest that the reward declares."""
    known = _known(scores)
    if not known:
        return Finding("range", "wrong", "there is no score")
    low, high = min(known), max(known)
    what = f"{low:.4g} to {high:.4g}, mean {fmean(known):.4g}, standard deviation {pstdev(known):.4g}"
    if high > highest:
        return Finding("range", "wrong", f"{what}; above the highest there is said to be, {highest:g}")
    return Finding("range", "ok", what)


def quick(call_s: Mapping[str, float], slow_s: float) -> Finding:
    """Whether half of the calls take no more than `slow_s`."""
    what = f"p50 {_time(call_s['p50'])}, p99 {_time(call_s['p99'])} a call of {call_s['completions']:.0f}"
    if call_s["p50"] > slow_s:
        return Finding("latency", "look", f"{what}: more than {_time(slow_s)}, every step waits for it")
    return Finding("latency", "ok", what)


def varied(scores: Sequence[Sequence[float | None]]) -> Finding:
    """Whether the completions of a prompt differ in score; one list of scores a prompt."""
    known = [[score for score in group if score is not None] for group in scores]
    several = [group for group in known if len(group) > 1]
    if not several:
        return Finding("variance", "look", "no prompt has two completions with a score: nothing to compare")
    flat = sum(max(group) == min(group) for group in several) / len(several)
    pairs = [a == b for group in several for a, b in combinations(group, 2)]
    what = f"{flat:.0%} of the groups have no variance, {fmean(pairs):.0%} of the pairs in them are ties"
    if flat >= FLAT:
        return Finding("variance", "look", f"{what}: nothing is learned from such groups")
    return Finding("variance", "ok", what)


def length_blind(scores: ByNumber, texts: Sequence[str]) -> Finding:
    """Whether the scores follow the length of the texts."""
    lengths = [len(texts[number]) for number, score in scores.items() if score is not None]
    rho = spearman(_known(scores), lengths)
    what = f"rank correlation {rho:+.2f} with the length in characters"
    if abs(rho) >= CORRELATED and abs(rho) * math.sqrt(max(len(lengths) - 1, 0)) >= CHANCE:
        way = "longer" if rho > 0 else "shorter"
        return Finding("length", "look", f"{what}: {way} completions score higher, whatever they say")
    return Finding("length", "ok", what)


def _differences(first: ByNumber, others: ByNumber, texts: Sequence[str]) -> tuple[int, float, str]:
    """How many of the other scores differ from the first ones, the largest difference, and the text that has it."""
    tolerance = SAME * max(1.0, pstdev(_known(first) or [0.0]))
    gaps = {number: gap for number, other in others.items() if (gap := _gap(first[number], other)) > tolerance}
    worst = max(gaps, key=gaps.__getitem__, default=None)
    return (0, 0.0, "") if worst is None else (len(gaps), gaps[worst], _short(texts[worst]))


def _gap(score: float | None, other: float | None) -> float:
    """The distance of two scores; infinity where only one of them is there."""
    if score is None or other is None:
        return 0.0 if score is other else math.inf
    return abs(score - other)


def _known(scores: ByNumber) -> list[float]:
    return [score for score in scores.values() if score is not None]


def _time(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.2g} ms"


def _short(text: str) -> str:
    whole = repr(text)
    return whole if len(whole) <= 40 else f"{whole[:39]}…"
