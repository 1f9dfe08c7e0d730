"""A reward on the bench: is it repeatable, fair to each completion, quick, and worth learning from?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, pstdev
from typing import Final, Literal

from rlhf_cli.evaluation.ranks import quantile, spearman
from rlhf_cli.rewards.execution.retrying import ScoreRequest
from rlhf_cli.rewards.execution.scorer import Scores, SourceScorer
from rlhf_cli.rewards.kinds import SingleSource
from rlhf_cli.rewards.kinds.base import IsolatedSource
from rlhf_cli.rewards.kinds.weighted import Weighted
from rlhf_cli.types import PromptRow

ALONE: Final = 32
"""Completions that are scored alone as well."""
SAME: Final = 1e-4
"""Scores that differ by less, in units of their spread or of one, are the same: rounding in a network's batch."""
CORRELATED: Final = 0.5
"""A rank correlation with length that is worth a look, where chance would hardly give it."""
CHANCE: Final = 3.0
"""Standard errors."""
FLAT: Final = 0.5
"""A share of groups without variance that is worth a look."""

Verdict = Literal["ok", "look", "wrong"]


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt and completions of it."""

    row: PromptRow
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    verdict: Verdict
    said: str


@dataclass(frozen=True, slots=True)
class Examination:
    """Everything found about one reward."""

    reward: str
    prompts: int
    completions: int
    scores: list[list[float | None]]
    """A list a prompt, one a completion; None without a usable score."""
    findings: list[Finding]
    call_s: dict[str, float]
    """Seconds of a call: p50, p99; and how many completions a call had."""

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings."""
        found = {finding.verdict for finding in self.findings}
        return "wrong" if "wrong" in found else "look" if "look" in found else "ok"


def examine(
    source: SingleSource | Weighted,
    groups: Sequence[Group],
    *,
    columns: Sequence[str],
    log: Path | None,
    batch: int,
    slow_s: float,
    seed: int,
    tick: Callable[[], None],
) -> Examination:
    """Score the completions several times over, in different company, and compare.

    `batch` completions are asked for at once; a call that takes more than `slow_s` is worth a look. `tick` is called
    after every call, and while one takes its time. Raises UserError (exit 4) for a reward that cannot be used at all.
    """
    rows = [group.row for group in groups for _ in group.texts]
    texts = [text for group in groups for text in group.texts]
    lenient = _lenient(source)
    calls: list[float] = []

    def ask(scorer: SourceScorer, parts: Sequence[slice], seed: int) -> Iterator[Scores]:
        for part in parts:
            begun = time.monotonic()
            yield scorer.score_texts(ScoreRequest(rows[part], texts[part], None, seed, tick, "reward test"), 1)
            calls.append(time.monotonic() - begun)
            tick()

    parts = [slice(start, start + batch) for start in range(0, len(texts), batch)]
    chosen = sorted({round(place * (len(texts) - 1) / max(ALONE - 1, 1)) for place in range(min(ALONE, len(texts)))})
    with SourceScorer(lenient, columns, log) as scorer:
        results = list(ask(scorer, parts, seed))
        call_s = {"p50": quantile(calls, 0.5), "p99": quantile(calls, 0.99), "completions": min(batch, len(texts))}
        scores = _each(results)
        chosen = [number for number in chosen if scores[number] is not None]
        parts = parts if chosen else []  # nothing has a score: no use in asking for more
        again = _each(ask(scorer, parts, seed))
        alone = _each(ask(scorer, [slice(number, number + 1) for number in chosen], seed))
        other = _each(ask(scorer, parts, seed + 1))
        name = scorer.name
    with SourceScorer(lenient, columns, log) as scorer:
        fresh = _each(ask(scorer, parts, seed))
    compare = _Compare(scores, texts)
    repeatable = _repeatable(compare, again, fresh, other)
    findings = [
        _usable(results),
        repeatable,
        _company(compare, chosen, alone) if repeatable.verdict == "ok" else Finding(
            "batch", "look", "cannot be told apart from the reward's own changes"
        ),
        _bounded(scores, source.highest),
        _latency(call_s, slow_s),
        _variance(groups, scores),
        _length(scores, texts),
    ]  # fmt: skip
    return Examination(name, len(groups), len(texts), _by_group(groups, scores), findings, call_s)


@dataclass(frozen=True, slots=True)
class _Compare:
    """Whether scores are those of the first time."""

    scores: Sequence[float | None]
    texts: Sequence[str]

    def differing(self, others: Sequence[float | None], numbers: Sequence[int] | None = None) -> tuple[int, float, str]:
        """How many of the others differ from the scores of these numbers, by how much at most, and which text does."""
        known = [score for score in self.scores if score is not None]
        tolerance = SAME * max(1.0, pstdev(known) if known else 0.0)
        apart = {
            number: _gap(self.scores[number], other)
            for number, other in zip(numbers if numbers is not None else range(len(others)), others, strict=True)
        }
        found = {number: gap for number, gap in apart.items() if gap > tolerance}
        worst = max(found, key=lambda number: found[number], default=-1)
        return len(found), found.get(worst, 0.0), _short(self.texts[worst]) if found else ""


def _lenient(source: SingleSource | Weighted) -> SingleSource | Weighted:
    """The same reward, which counts failures instead of ending at the first."""
    if isinstance(source, Weighted):
        return source.model_copy(update={"parts": {name: _lenient(part) for name, part in source.parts.items()}})
    return source.model_copy(update={"on_error": "mask"}) if isinstance(source, IsolatedSource) else source


def _gap(score: float | None, other: float | None) -> float:
    """The distance of two scores; infinity where only one of them is there."""
    if score is None or other is None:
        return 0.0 if score is other else math.inf
    return abs(score - other)


def _each(results: Iterable[Scores]) -> list[float | None]:
    """A score for each text; None where it has none. Every text is a prompt of its own here."""
    scores: list[float | None] = []
    for result in results:
        values = iter(result.values)
        count = len(result.values) + len(result.left_out)
        scores += [None if number in result.left_out else next(values) for number in range(count)]
    return scores


def _by_group(groups: Sequence[Group], scores: Sequence[float | None]) -> list[list[float | None]]:
    remaining = iter(scores)
    return [[next(remaining) for _ in group.texts] for group in groups]


def _usable(results: Sequence[Scores]) -> Finding:
    count = sum(len(result.values) + len(result.left_out) for result in results)
    failures = sum(result.failures for result in results)
    retries = sum(result.retries for result in results)
    tried = f"; {retries} calls were made again" if retries else ""
    if failures:
        first = next(result.first_failure for result in results if result.first_failure)
        return Finding("exceptions", "wrong", f"{failures} of {count} have no usable score; the first: {first}{tried}")
    return Finding("exceptions", "look" if retries else "ok", f"all {count} completions have a score{tried}")


def _repeatable(
    compare: _Compare,
    again: Sequence[float | None],
    fresh: Sequence[float | None],
    other: Sequence[float | None],
) -> Finding:
    for others, when in ((again, "asked again"), (fresh, "asked in a new process")):
        count, most, text = compare.differing(others)
        if count:
            said = f"{count} of {len(others)} scores are others when {when}, by up to {most:.3g}: {text}"
            return Finding("determinism", "wrong", said)
    if not again:
        return Finding("determinism", "look", "there is no score to compare")
    count, most, _ = compare.differing(other)
    if count:
        said = f"repeatable, but {count} of {len(other)} scores depend on the seed, by up to {most:.3g}"
        return Finding("determinism", "look", said)
    return Finding("determinism", "ok", "the same scores when asked again, and in a new process")


def _company(compare: _Compare, chosen: Sequence[int], alone: Sequence[float | None]) -> Finding:
    count, most, text = compare.differing(alone, chosen)
    if count:
        said = f"{count} of {len(chosen)} scores are others when the completion is alone, by up to {most:.3g}: {text}"
        return Finding("batch", "wrong", said)
    return Finding("batch", "ok", f"{len(chosen)} completions have the same score alone")


def _bounded(scores: Sequence[float | None], highest: float) -> Finding:
    known = [score for score in scores if score is not None]
    if not known:
        return Finding("range", "wrong", "there is no score")
    low, high = min(known), max(known)
    shown = f"{low:.4g} to {high:.4g}, mean {fmean(known):.4g}, standard deviation {pstdev(known):.4g}"
    if high > highest:
        return Finding("range", "wrong", f"{shown}; above the highest there is said to be, {highest:g}")
    return Finding("range", "ok", shown)


def _latency(call_s: dict[str, float], slow_s: float) -> Finding:
    said = f"p50 {_time(call_s['p50'])}, p99 {_time(call_s['p99'])} a call of {call_s['completions']:.0f}"
    if call_s["p50"] > slow_s:
        return Finding("latency", "look", f"{said}: more than {_time(slow_s)}, every step waits for it")
    return Finding("latency", "ok", said)


def _variance(groups: Sequence[Group], scores: Sequence[float | None]) -> Finding:
    known = [[score for score in group if score is not None] for group in _by_group(groups, scores)]
    several = [group for group in known if len(group) > 1]
    if not several:
        return Finding("variance", "look", "no prompt has two completions with a score: nothing to compare")
    flat = sum(max(group) == min(group) for group in several) / len(several)
    pairs = [a == b for group in several for a, b in combinations(group, 2)]
    said = f"{flat:.0%} of the groups have no variance, {fmean(pairs):.0%} of the pairs in them are ties"
    if flat >= FLAT:
        return Finding("variance", "look", f"{said}: nothing is learned from such groups")
    return Finding("variance", "ok", said)


def _length(scores: Sequence[float | None], texts: Sequence[str]) -> Finding:
    known = [(score, float(len(text))) for score, text in zip(scores, texts, strict=True) if score is not None]
    found = spearman([score for score, _ in known], [length for _, length in known])
    said = f"rank correlation {found:+.2f} with the length in characters"
    if abs(found) >= CORRELATED and abs(found) * math.sqrt(max(len(known) - 1, 0)) >= CHANCE:
        way = "longer" if found > 0 else "shorter"
        return Finding("length", "look", f"{said}: {way} completions score higher, whatever they say")
    return Finding("length", "ok", said)


def _time(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.2g} ms"


def _short(text: str) -> str:
    whole = repr(text)
    return whole if len(whole) <= 40 else f"{whole[:39]}…"
