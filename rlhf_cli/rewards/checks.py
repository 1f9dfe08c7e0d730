"""The checks of `rlhf reward test`: each reads scores and returns a Finding: ok, worth a look, or wrong.

Scores stand under the number of their completion, from 0; None is a completion without a usable score.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Final, Literal

from rlhf_cli.evaluation.ranks import spearman
from rlhf_cli.functional.returns import ROUNDING
from rlhf_cli.plural import plural
from rlhf_cli.rewards.execution.scorer import Scores
from rlhf_cli.rewards.texts import quote

SAME: Final = 1e-4
"""Smaller differences are rounding. In units of the scores' standard deviation, or of 1 where that is larger."""
CORRELATED: Final = 0.5
"""A rank correlation with the length that is worth a look, unless chance explains it."""
BRIEFLY: Final = 39
"""Characters of a completion that a finding shows."""
CHANCE: Final = 3.0
"""Chance hardly explains a correlation of so many standard errors."""
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
    """The result in one sentence; `rlhf reward test --json` writes it under this name."""


def check_failures(results: Sequence[Scores]) -> Finding:
    """Check that every completion has a score at the first try."""
    count = sum(len(result.values) + len(result.left_out) for result in results)
    failures = sum(result.failures for result in results)
    retries = sum(result.retries for result in results)
    repeated = f"; calls made again: {retries}" if retries else ""
    if failures:
        first = next(result.first_failure for result in results if result.first_failure)
        what = f"{failures} of {count} have no usable score; the first: {first}{repeated}"
        return Finding("exceptions", "wrong", what)
    return Finding("exceptions", "look" if retries else "ok", f"all {count} completions have a score{repeated}")


def check_determinism(
    first: ByNumber, again: ByNumber, restarted: ByNumber, reseeded: ByNumber, texts: Sequence[str]
) -> Finding:
    """Check that the scores are the same in a second call, in a new process, and with another seed."""
    for others, when in ((again, "asked again"), (restarted, "asked in a new process")):
        count, apart, text = _differences(first, others, texts)
        if count:
            what = f"{count} of {len(others)} scores differ when {when}, {apart}: {text}"
            return Finding("determinism", "wrong", what)
    if not again:
        return Finding("determinism", "look", "there is no score to compare")
    count, apart, _ = _differences(first, reseeded, texts)
    if count:
        what = f"repeatable, but {count} of {len(reseeded)} scores depend on the seed, {apart}"
        return Finding("determinism", "look", what)
    return Finding("determinism", "ok", "the same scores when asked again, and in a new process")


def check_batch(first: ByNumber, alone: ByNumber, texts: Sequence[str], *, is_repeatable: bool) -> Finding:
    """Check that a completion has the same score alone; without repeatable scores nothing can be compared."""
    if not is_repeatable:
        return Finding("batch", "look", "cannot be told apart from the reward's own changes")
    count, apart, text = _differences(first, alone, texts)
    if count:
        what = f"{count} of {len(alone)} scores differ when the completion is alone, {apart}: {text}"
        return Finding("batch", "wrong", what)
    return Finding("batch", "ok", f"the same score alone, for {plural(len(alone), 'completion')}")


def check_range(scores: ByNumber, highest: float) -> Finding:
    """Check that no score is above the highest that the reward declares."""
    known = _known(scores)
    if not known:
        return Finding("range", "wrong", "there is no score")
    low, high = min(known), max(known)
    what = f"{low:.4g} to {high:.4g}, mean {fmean(known):.4g}, standard deviation {pstdev(known):.4g}"
    if high > highest:
        return Finding("range", "wrong", f"{what}; above the highest there is said to be, {highest:g}")
    return Finding("range", "ok", what)


def check_latency(call_s: Mapping[str, float], slow_s: float) -> Finding:
    """Check that the median call takes at most `slow_s` seconds; `call_s` is that of an `Examination`."""
    what = f"p50 {_time(call_s['p50'])}, p99 {_time(call_s['p99'])} a call of {call_s['completions']:.0f}"
    if call_s["p50"] > slow_s:
        return Finding("latency", "look", f"{what}: more than {_time(slow_s)}, every step waits for it")
    return Finding("latency", "ok", what)


def check_variance(scores: Sequence[Sequence[float | None]]) -> Finding:
    """Check that the completions of a prompt differ in score; `scores` has one list a prompt."""
    known = [[score for score in group if score is not None] for group in scores]
    several = [group for group in known if len(group) > 1]
    if not several:
        return Finding("variance", "look", "no prompt has two completions with a score: nothing to compare")
    flat = sum(max(group) - min(group) <= ROUNDING * max(map(abs, group)) for group in several) / len(several)
    ties = sum(_count_pairs(Counter(group).values()) for group in several) / _count_pairs(map(len, several))
    what = f"{flat:.0%} of the groups have no variance, {ties:.0%} of the pairs in them are ties"
    if flat >= FLAT:
        return Finding("variance", "look", f"{what}: nothing is learned from such groups")
    return Finding("variance", "ok", what)


def check_length(scores: ByNumber, texts: Sequence[str]) -> Finding:
    """Check that the scores do not follow the length of the texts, in characters."""
    lengths = [len(texts[number]) for number, score in scores.items() if score is not None]
    rho = spearman(_known(scores), lengths)
    what = f"rank correlation {rho:+.2f} with the length in characters"
    if abs(rho) >= CORRELATED and abs(rho) * math.sqrt(max(len(lengths) - 1, 0)) >= CHANCE:
        way = "longer" if rho > 0 else "shorter"
        return Finding("length", "look", f"{what}: {way} completions score higher, whatever they say")
    return Finding("length", "ok", what)


def _count_pairs(sizes: Iterable[int]) -> int:
    """The number of pairs within groups of these sizes."""
    return sum(math.comb(size, 2) for size in sizes)


def _differences(first: ByNumber, others: ByNumber, texts: Sequence[str]) -> tuple[int, str, str]:
    """Count the scores that differ from the first ones; return also by how much, and the text that differs most."""
    tolerance = SAME * max(1.0, pstdev(_known(first) or [0.0]))
    gaps = {number: gap for number, other in others.items() if (gap := _gap(first[number], other)) > tolerance}
    worst = max(gaps, key=gaps.__getitem__, default=None)
    if worst is None:
        return 0, "", ""
    apart = f"by up to {gaps[worst]:.3g}" if math.isfinite(gaps[worst]) else "and some are missing"
    return len(gaps), apart, quote(texts[worst], BRIEFLY)


def _gap(score: float | None, other: float | None) -> float:
    """The distance of two scores: 0 where both are missing, infinity where one is."""
    if score is None or other is None:
        return 0.0 if score is other else math.inf
    return abs(score - other)


def _known(scores: ByNumber) -> list[float]:
    return [score for score in scores.values() if score is not None]


def _time(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.2g} ms"
