"""Find the first difference between two executions of the same steps.

Within a step a cause is compared before its effects: rollout, scores, metrics, evaluation.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from rlhf_cli.models.files import ADAPTER_WEIGHTS
from rlhf_cli.pipeline.state import OPTIMIZER, STATE, VALUE_HEAD
from rlhf_cli.settings import as_text

Row = Mapping[str, Any]

TENSORS: Final = ((ADAPTER_WEIGHTS, "weights"), (VALUE_HEAD, "weights"), (OPTIMIZER, "optimizer"))
CAUSES: Final = ("temperature", "beta", "lr", "completion/", "reward/", "kl/", "policy/")
"""Beginnings of the metrics that are named first where several differ: the others follow from them."""
ROLLOUT: Final = ("prompt", "completion", "truncated")
LONGEST: Final = 60
"""Characters of a value that are shown."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some steps of a run: the lines of its logs, and the checkpoint at their end."""

    metrics: Sequence[Row]
    samples: Sequence[Row]
    evaluations: Sequence[Row]
    checkpoint: Path


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference."""

    step: int
    quantity: str
    """completions, scores, metrics, evaluation, weights, optimizer or state."""
    what: str
    """The number or text that differs, and both values."""


def rows_of(text: bytes) -> list[Row]:
    """The lines of a jsonl file; numbers with a point stay text, so that equal values have equal digits."""
    return [json.loads(line, parse_float=str) for line in text.split(b"\n") if line]


def find_divergence(was: Stretch, now: Stretch) -> Divergence | None:
    """The first difference: by step, then in what the checkpoints saved; None where there is none."""
    for step in sorted({row["step"] for row in (*was.metrics, *now.metrics)}):
        for quantity, what in _compare_step(step, was, now):
            if what:
                return Divergence(step, quantity, what)
    last = max(row["step"] for row in was.metrics)
    for file, quantity in TENSORS:
        if what := compare_tensors(read_tensors(was.checkpoint / file), read_tensors(now.checkpoint / file)):
            return Divergence(last, quantity, what)
    before, after = (_read_state(stretch.checkpoint) for stretch in (was, now))
    what = _compare_values(before, after, sorted(before.keys() | after.keys()))
    return Divergence(last, "state", what) if what else None


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's file; none where the checkpoint has no such file."""
    return load_file(file) if file.is_file() else {}


def compare_tensors(was: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> str | None:
    """The first tensor that differs in a bit, and by how much; None where all are equal."""
    for name in sorted(was.keys() | now.keys()):
        if name not in was or name not in now:
            return f"{name} is {'new' if name in now else 'gone'}"
        before, after = was[name], now[name]
        if (before.dtype, before.shape) != (after.dtype, after.shape):
            return f"{name} was {_kind(before)}, is {_kind(after)}"
        if not torch.equal(_bits(before), _bits(after)):
            count = int((_bits(before) != _bits(after)).view(before.numel(), -1).any(1).sum())
            apart = (before.double() - after.double()).abs().max()
            return f"{name} differs in {count} of {before.numel()} numbers, by up to {apart:.3g}"
    return None


def _compare_step(step: int, was: Stretch, now: Stretch) -> Iterator[tuple[str, str | None]]:
    """Each quantity of a step with its first difference, the cause before its effects."""
    before, after = (_at(step, stretch.samples) for stretch in (was, now))
    yield "completions", _compare_rows("completion", before, after, ROLLOUT)
    yield "scores", _compare_rows("completion", before, after, ("score",))
    metrics, new_metrics = (_at(step, stretch.metrics) for stretch in (was, now))
    keys = sorted({key for row in (*metrics, *new_metrics) for key in row if not key.startswith("eval/")}, key=_rank)
    yield "metrics", _compare_rows("line", metrics, new_metrics, keys)
    yield "metrics", _compare_rows("completion", before, after, ("kl",))
    old, new = (_at(step, stretch.evaluations) for stretch in (was, now))
    fields = ("texts", "reward", *(key for row in old for key in row))
    yield "evaluation", _compare_rows("evaluation", old, new, fields)


def _at(step: int, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["step"] == step]


def _rank(key: str) -> tuple[int, str]:
    return next((i for i, beginning in enumerate(CAUSES) if key.startswith(beginning)), len(CAUSES)), key


def _compare_rows(name: str, was: Sequence[Row], now: Sequence[Row], keys: Sequence[str]) -> str | None:
    """The first difference between two lists of rows: in their number, or in a value."""
    if len(was) != len(now):
        return f"there were {len(was)} {name}s, there are {len(now)}"
    for number, (before, after) in enumerate(zip(was, now, strict=True), start=1):
        if what := _compare_values(before, after, keys):
            return f"{name} {number}: {what}" if len(was) > 1 else what
    return None


def _compare_values(was: Row, now: Row, keys: Sequence[str]) -> str | None:
    for key in keys:
        if was.get(key) != now.get(key):
            return f"{key} was {_shorten(was.get(key))}, is {_shorten(now.get(key))}"
    return None


def _shorten(value: Any) -> str:
    text = as_text(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _read_state(folder: Path) -> Row:
    """state.json without the mark of timings.jsonl: seconds never repeat."""
    state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"), parse_float=str)
    return state | {"logs": {name: mark for name, mark in state["logs"].items() if name != "timings"}}


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)
