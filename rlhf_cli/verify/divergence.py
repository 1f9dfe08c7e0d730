"""Where two tellings of the same steps part: what is compared, in the order in which one thing causes the next."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from rlhf_cli.models.policy import ADAPTER_WEIGHTS
from rlhf_cli.pipeline.state import OPTIMIZER, STATE, VALUE_HEAD

Row = Mapping[str, Any]

TENSORS: Final = ((ADAPTER_WEIGHTS, "weights"), (VALUE_HEAD, "weights"), (OPTIMIZER, "optimizer"))
CAUSES: Final = ("temperature", "beta", "lr", "completion/", "reward/", "kl/", "policy/")
"""Beginnings of the metrics that are named first where several differ: what the others follow from."""
ROLLOUT: Final = ("prompt", "completion", "truncated")
LONGEST: Final = 60
"""Characters of a value that are shown."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some steps of a run: the lines it wrote in them, and the checkpoint they ended with."""

    metrics: Sequence[Row]
    samples: Sequence[Row]
    evaluations: Sequence[Row]
    checkpoint: Path


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first quantity that differs."""

    step: int
    quantity: str
    """completions, scores, metrics, evaluation, weights, optimizer or state."""
    what: str
    """Which one of them, and both values."""


def rows_of(text: bytes) -> list[Row]:
    """The lines of a jsonl file; a number with a point stays the text it is, so that equal means equal digits."""
    return [json.loads(line, parse_float=str) for line in text.split(b"\n") if line]


def first_divergence(was: Stretch, now: Stretch) -> Divergence | None:
    """What differs first: by step, and within a step rollout, scores, metrics, evaluation; then what was saved."""
    for step in sorted({row["step"] for row in (*was.metrics, *now.metrics)}):
        for quantity, what in _of_step(step, was, now):
            if what:
                return Divergence(step, quantity, what)
    last = max(row["step"] for row in was.metrics)
    for file, quantity in TENSORS:
        if what := different_tensor(tensors(was.checkpoint / file), tensors(now.checkpoint / file)):
            return Divergence(last, quantity, what)
    before, after = (_state(stretch.checkpoint) for stretch in (was, now))
    what = _different(before, after, sorted(before.keys() | after.keys()))
    return Divergence(last, "state", what) if what else None


def tensors(file: Path) -> dict[str, Tensor]:
    """What a checkpoint holds in that file; nothing where there is none."""
    return load_file(file) if file.is_file() else {}


def different_tensor(was: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> str:
    """The first tensor that is not the same bit for bit, and by how much; empty where there is none."""
    for name in sorted(was.keys() | now.keys()):
        if name not in was or name not in now:
            return f"{name} is {'new' if name in now else 'gone'}"
        before, after = was[name], now[name]
        if (before.dtype, before.shape) != (after.dtype, after.shape):
            return f"{name} was {tuple(before.shape)}, is {tuple(after.shape)}"
        if not torch.equal(_bits(before), _bits(after)):
            apart = (before.double() - after.double()).abs()
            return f"{name} differs in {int((apart != 0).sum())} of {apart.numel()} numbers, by up to {apart.max():.3g}"
    return ""


def _of_step(step: int, was: Stretch, now: Stretch) -> Iterable[tuple[str, str]]:
    """Each quantity of a step with what differs in it, the cause before its effects."""
    before, after = (_at(step, stretch.samples) for stretch in (was, now))
    yield "completions", _counted("completions", before, after) or _among("completion", before, after, ROLLOUT)
    yield "scores", _among("completion", before, after, ("score",))
    metrics, measured = (_at(step, stretch.metrics) for stretch in (was, now))
    keys = sorted({key for row in (*metrics, *measured) for key in row if not key.startswith("eval/")}, key=_rank)
    yield "metrics", _counted("lines", metrics, measured) or _among("line", metrics, measured, keys)
    yield "metrics", _among("completion", before, after, ("kl",))
    held_out, again = (_at(step, stretch.evaluations) for stretch in (was, now))
    fields = ("texts", "reward", *(key for row in held_out for key in row))
    yield "evaluation", _counted("evaluations", held_out, again) or _among("evaluation", held_out, again, fields)


def _at(step: int, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["step"] == step]


def _rank(key: str) -> tuple[int, str]:
    return next((i for i, beginning in enumerate(CAUSES) if key.startswith(beginning)), len(CAUSES)), key


def _counted(name: str, was: Sequence[Row], now: Sequence[Row]) -> str:
    return f"there were {len(was)} {name}, there are {len(now)}" if len(was) != len(now) else ""


def _among(name: str, was: Sequence[Row], now: Sequence[Row], keys: Sequence[str]) -> str:
    """What differs first in rows of which there are as many."""
    for number, (before, after) in enumerate(zip(was, now, strict=True), start=1):
        if what := _different(before, after, keys):
            return f"{name} {number}: {what}" if len(was) > 1 else what
    return ""


def _different(was: Row, now: Row, keys: Sequence[str]) -> str:
    for key in keys:
        if was.get(key) != now.get(key):
            return f"{key} was {_shown(was.get(key))}, is {_shown(now.get(key))}"
    return ""


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _state(folder: Path) -> Row:
    """state.json without the mark of timings.jsonl: seconds never repeat."""
    state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"), parse_float=str)
    return state | {"logs": {name: mark for name, mark in state["logs"].items() if name != "timings"}}


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)
