"""The tables of lm-eval for a policy and its reference, as one: each metric of each task, and the difference."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

CLOSE = 1e-9
"""Largest difference of the mean over documents from a metric of a task that is such a mean."""


@dataclass(frozen=True, slots=True)
class Level:
    """A metric with lm-eval's own standard error; None where lm-eval has none."""

    value: float
    stderr: float | None


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one task, of both models."""

    task: str
    metric: str
    filter: str
    """The filter by which lm-eval takes the answers from the texts; `none` leaves them as they are."""
    documents: int
    shots: int | None
    """Examples in each prompt; None for a group of tasks."""
    higher_is_better: bool | None
    policy: Level
    reference: Level
    difference: Level
    """Policy less reference; its standard error is paired by document, None where the metric is no mean over them."""


def compare_tables(policy: Mapping[str, Any], reference: Mapping[str, Any]) -> list[Score]:
    """Put the results of two calls of lm-eval's `evaluate` beside one another, in lm-eval's order."""
    return [
        _score(policy, reference, task, key)
        for task, row in policy["results"].items()
        for key, value in row.items()
        if "," in key and "_stderr," not in key and isinstance(value, int | float)
    ]


def _score(policy: Mapping[str, Any], reference: Mapping[str, Any], task: str, key: str) -> Score:
    metric, _, filter_name = key.partition(",")
    levels = [_level(side["results"][task], metric, filter_name) for side in (policy, reference)]
    gap = levels[0].value - levels[1].value
    return Score(
        task=task,
        metric=metric,
        filter=filter_name,
        documents=int(policy["results"][task].get("sample_len", 0)),
        shots=policy.get("n-shot", {}).get(task),
        higher_is_better=policy.get("higher_is_better", {}).get(task, {}).get(metric),
        policy=levels[0],
        reference=levels[1],
        difference=Level(gap, _paired(policy, reference, task, metric, filter_name, gap)),
    )


def _level(row: Mapping[str, Any], metric: str, filter_name: str) -> Level:
    stderr = row.get(f"{metric}_stderr,{filter_name}")  # the text N/A where there is none
    known = float(stderr) if isinstance(stderr, int | float) and math.isfinite(stderr) else None
    return Level(float(row[f"{metric},{filter_name}"]), known)


def _paired(
    policy: Mapping[str, Any], reference: Mapping[str, Any], task: str, metric: str, filter_name: str, gap: float
) -> float | None:
    """The standard error of the mean difference, as lm-eval has it for a mean: sd / sqrt(n)."""
    samples = [side.get("samples", {}).get(task, ()) for side in (policy, reference)]
    both = [dict(_documents(rows, metric, filter_name)) for rows in samples]
    shared = sorted(both[0].keys() & both[1].keys())
    gaps = [both[0][document] - both[1][document] for document in shared]
    if len(gaps) < 2 or not math.isclose(fmean(gaps), gap, rel_tol=0, abs_tol=CLOSE):
        return None
    return stdev(gaps) / math.sqrt(len(gaps))


def _documents(samples: Sequence[Mapping[str, Any]], metric: str, filter_name: str) -> Iterator[tuple[int, float]]:
    """The metric of each document, by its number."""
    for sample in samples:
        value = sample.get(metric)
        if sample.get("filter") == filter_name and isinstance(value, int | float):
            yield sample["doc_id"], float(value)
