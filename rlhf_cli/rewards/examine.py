"""Examine a reward: let it score the same completions several times, and check the scores."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rlhf_cli.data.files import bad_row
from rlhf_cli.evaluation.ranks import quantile
from rlhf_cli.rewards import checks
from rlhf_cli.rewards.checks import Finding, Verdict
from rlhf_cli.rewards.execution.retrying import ScoreRequest
from rlhf_cli.rewards.execution.scorer import Scores, SourceScorer
from rlhf_cli.rewards.kinds import SingleSource
from rlhf_cli.rewards.kinds.base import IsolatedSource
from rlhf_cli.rewards.kinds.weighted import Weighted
from rlhf_cli.types import PromptRow

ALONE: Final = 32
"""Completions that are scored alone as well."""
OF_A_SAMPLE: Final = ("step", "score", "kl", "truncated")
"""The columns of a run's samples.jsonl that belong to the completion, not to the prompt."""


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt and its completions."""

    row: PromptRow
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Examination:
    """The scores of a reward, and the findings of every check."""

    reward: str
    prompts: int
    completions: int
    scores: list[list[float | None]]
    """One list a prompt, with one score a completion; None without a usable score."""
    findings: list[Finding]
    call_s: dict[str, float]
    """Seconds of a call, as p50 and p99; and the number of completions of a call."""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the findings."""
        verdicts = {finding.verdict for finding in self.findings}
        return "wrong" if "wrong" in verdicts else "look" if "look" in verdicts else "ok"


def group_completions(rows: Sequence[PromptRow]) -> list[Group]:
    """Group the rows of a file by prompt and columns; each row's column `completion` is a completion.

    Raises UserError (exit 3) for a row without a completion.
    """
    groups: dict[str, tuple[PromptRow, list[str]]] = {}
    for row in rows:
        columns = dict(row.columns)
        completion = columns.pop("completion", None)
        if isinstance(completion, list) and len(completion) == 1 and isinstance(completion[0], dict):
            completion = completion[0].get("content")  # as chat data has it
        if not isinstance(completion, str):
            what = "no completion" if completion is None else "a completion that is no text"
            raise bad_row(what, row.where, 'write {"prompt": "...", "completion": "..."}')
        of_prompt = {name: value for name, value in columns.items() if name not in OF_A_SAMPLE}
        key = json.dumps([str(row.prompt), of_prompt], sort_keys=True)
        groups.setdefault(key, (PromptRow(row.prompt, columns, row.where), []))[1].append(completion)
    return [Group(row, tuple(texts)) for row, texts in groups.values()]


def examine(
    source: SingleSource | Weighted, groups: Sequence[Group], *, batch: int, slow_s: float, seed: int
) -> Examination:
    """Score the completions again, alone, with another seed and in a new process, and check the scores.

    A call has `batch` completions, and is slow if it takes more than `slow_s`. Raises UserError (exit 4) for a reward
    that cannot be used at all.
    """
    rows = [group.row for group in groups for _ in group.texts]
    texts = [text for group in groups for text in group.texts]
    columns = {name for row in rows for name in row.columns}
    source = _tolerant(source)
    results: list[Scores] = []
    seconds: list[float] = []

    def ask(scorer: SourceScorer, parts: Sequence[Sequence[int]], seed: int) -> dict[int, float | None]:
        """Score the completions of these numbers, one call a part; return the scores by number."""
        scores: dict[int, float | None] = {}
        for part in parts:
            prompts, completions = [rows[number] for number in part], [texts[number] for number in part]
            request = ScoreRequest(prompts, completions, None, seed, lambda: None, "reward test")
            begun = time.monotonic()
            results.append(scorer.score_texts(request, 1))
            seconds.append(time.monotonic() - begun)
            values, left_out = iter(results[-1].values), results[-1].left_out
            scores |= {number: None if place in left_out else next(values) for place, number in enumerate(part)}
        return scores

    parts = [range(start, min(start + batch, len(texts))) for start in range(0, len(texts), batch)]
    spread = {round(place * (len(texts) - 1) / max(ALONE - 1, 1)) for place in range(min(ALONE, len(texts)))}
    with SourceScorer(source, columns, None) as scorer:
        name, first = scorer.name, ask(scorer, parts, seed)
        call_s = {"p50": quantile(seconds, 0.5), "p99": quantile(seconds, 0.99), "completions": min(batch, len(texts))}
        usable = checks.usable(results)
        chosen = [number for number in sorted(spread) if first[number] is not None]
        parts = parts if chosen else []  # without a score there is nothing to compare
        again = ask(scorer, parts, seed)
        alone = ask(scorer, [[number] for number in chosen], seed)
        reseeded = ask(scorer, parts, seed + 1)
    with SourceScorer(source, columns, None) as scorer:
        restarted = ask(scorer, parts, seed)
    remaining = iter(first.values())
    scores = [[next(remaining) for _ in group.texts] for group in groups]
    repeatable = checks.repeatable(first, again, restarted, reseeded, texts)
    findings = [
        usable,
        repeatable,
        checks.independent(first, alone, texts, is_repeatable=repeatable.verdict == "ok"),
        checks.bounded(first, source.highest),
        checks.quick(call_s, slow_s),
        checks.varied(scores),
        checks.length_blind(first, texts),
    ]
    return Examination(name, len(groups), len(texts), scores, findings, call_s)


def _tolerant(source: SingleSource | Weighted) -> SingleSource | Weighted:
    """The same reward, which does not stop at a failure."""
    if isinstance(source, Weighted):
        return source.model_copy(update={"parts": {name: _tolerant(part) for name, part in source.parts.items()}})
    return source.model_copy(update={"on_error": "mask"}) if isinstance(source, IsolatedSource) else source
