"""Examine a reward: let it score the same completions several times, and check the scores."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from rlhf_cli.errors import bad_data
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
"""The most completions that are also scored alone."""
OF_A_SAMPLE: Final = ("step", "score", "kl", "truncated")
"""The columns of a run's samples.jsonl that belong to the completion, not to the prompt."""


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt and its completions."""

    row: PromptRow
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Examination:
    """The scores of a reward, and one finding a check."""

    reward: str
    prompts: int
    completions: int
    scores: list[list[float | None]]
    """One list a prompt, one score a completion; None for a completion without a usable score."""
    findings: list[Finding]
    call_s: dict[str, float]
    """`p50` and `p99`: seconds of a call; `completions`: the number of completions in it."""

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
            raise bad_data(what, row.where, 'write {"prompt": "...", "completion": "..."}')
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
    source, ask = _tolerant(source), partial(_score_batches, rows, texts)
    batches = [range(start, min(start + batch, len(texts))) for start in range(0, len(texts), batch)]
    spread = {round(place * (len(texts) - 1) / max(ALONE - 1, 1)) for place in range(min(ALONE, len(texts)))}
    with SourceScorer(source, columns, None) as scorer:
        name, first = scorer.name, ask(scorer, batches, seed)
        singles = [[number] for number in sorted(spread) if first.scores[number] is not None]
        repeated = batches if singles else []  # without a score there is nothing to compare
        again = ask(scorer, repeated, seed).scores
        alone = ask(scorer, singles, seed).scores
        reseeded = ask(scorer, repeated, seed + 1).scores
        notes = scorer.take_notes()
    with SourceScorer(source, columns, None) as scorer:
        restarted = ask(scorer, repeated, seed).scores
    remaining = iter(first.scores.values())
    scores = [[next(remaining) for _ in group.texts] for group in groups]
    p50, p99 = quantile(first.seconds, 0.5), quantile(first.seconds, 0.99)
    call_s = {"p50": p50, "p99": p99, "completions": min(batch, len(texts))}
    determinism = checks.check_determinism(first.scores, again, restarted, reseeded, texts)
    findings = [
        checks.check_failures(first.results),
        determinism,
        checks.check_batch(first.scores, alone, texts, is_repeatable=determinism.verdict == "ok"),
        checks.check_range(first.scores, source.highest),
        checks.check_latency(call_s, slow_s),
        checks.check_variance(scores),
        checks.check_length(first.scores, texts),
        *(checks.Finding("reading", "look", note) for note in notes),
    ]
    return Examination(name, len(groups), len(texts), scores, findings, call_s)


@dataclass(slots=True)
class _Round:
    """Completions that were scored once."""

    scores: dict[int, float | None] = field(default_factory=dict)
    """By the number of the completion; None without a usable score."""
    results: list[Scores] = field(default_factory=list)
    """One a call, as are `seconds`."""
    seconds: list[float] = field(default_factory=list)


def _score_batches(
    rows: Sequence[PromptRow], texts: Sequence[str], scorer: SourceScorer, batches: Sequence[Sequence[int]], seed: int
) -> _Round:
    """Score the completions of these numbers, one call a batch."""
    done = _Round()
    for batch in batches:
        prompts, completions = [rows[number] for number in batch], [texts[number] for number in batch]
        request = ScoreRequest(prompts, completions, None, seed, lambda: None, "reward test")
        begun = time.monotonic()
        result = scorer.score_texts(request, 1)
        done.seconds.append(time.monotonic() - begun)
        done.results.append(result)
        values = iter(result.values)
        done.scores |= {
            number: None if place in result.left_out else next(values) for place, number in enumerate(batch)
        }
    return done


def _tolerant(source: SingleSource | Weighted) -> SingleSource | Weighted:
    """The same reward, which does not stop at a failure."""
    if isinstance(source, Weighted):
        return source.model_copy(update={"parts": {name: _tolerant(part) for name, part in source.parts.items()}})
    return source.model_copy(update={"on_error": "mask"}) if isinstance(source, IsolatedSource) else source
