"""Runs made by hand, for the tests of pages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_cli.evaluation.evaluation import compare
from rlhf_cli.evaluation.intervals import Interval
from rlhf_cli.evaluation.optimum import unknown
from rlhf_cli.evaluation.pairs import Bin
from rlhf_cli.runs.listing import RunStatus
from rlhf_cli.runs.reading import SavedRun
from rlhf_cli.runs.result import Result, SideBySide
from rlhf_cli.supervised.result import SupervisedResult
from tests.unit.evaluation.samples import AFTER, BEFORE
from tests.unit.support import config_fields

HOSTILE = "</script><b>&\x1b[31m \u202e</p><svg onload=alert(1)>"
EMPTY = SavedRun(
    RunStatus(Path("/runs/e"), "broken", "no usable checkpoint", None, None, None, None, None, None, 0.0),
    {}, {}, None, (), (), (), (), None, None,
)  # fmt: skip

REWARD_MODEL_RESULT = SupervisedResult(
    task="bradley_terry",
    step=4,
    exported=2,
    best=2,
    stalled=1,
    held_out=8,
    before={"loss": Interval(0.693, 0.693, 0.693)},
    after={"loss": Interval(0.5, 0.4, 0.6), "accuracy": Interval(0.75, 0.5, 0.875)},
    change={"loss": Interval(-0.193, -0.293, -0.093)},
    reliability=(Bin(6, 0.6, Interval(0.5, 0.2, 0.8)), Bin(2, 0.9, Interval(1.0, 0.5, 1.0))),
)


def sample_run(folder: str = "/runs/a", **changes: Any) -> SavedRun:
    """A finished run of four steps; `changes` replace whole fields."""
    metrics: list[dict[str, Any]] = [{"step": 0, **BEFORE.metrics()}]
    metrics += [
        {"step": step, "objective": 0.1 * step, "reward/mean": 0.2 * step, "reward/mean_se": 0.1, "kl/seq": 0.3 * step}
        for step in range(1, 5)
    ]
    metrics[-1] |= AFTER.metrics()
    timings = [{"step": step, "time/rollout_s": 1.0, "time/step_s": 1.0, "tokens_per_s": 9.0} for step in range(1, 5)]
    run = SavedRun(
        status=RunStatus(Path(folder), "finished", None, 4, 4, 0.4, 0.8, 1.2, Path(folder, "checkpoints"), 0.0),
        config=config_fields(run_dir=folder),
        record={
            "command": ["rlhf", "config='tiny'", "beta='0.5'", "run_dir='/x'", "hydra.mode=RUN", "display=quiet"],
            "device": "cpu",
            "packages": {"torch": "2.13"},
            "model": {"parameters": 135_000_000, "trained": 1_843_200},
            "data": {"sha256": "abc"},
            "reward": {"sha256": None},
        },
        result=Result(
            4,
            0.5,
            2,
            2,
            compare(BEFORE, AFTER),
            unknown("too few samples", 1.5, 30.0),
            (SideBySide("a prompt", "a b c", "a x c"),),
        ),
        metrics=tuple(metrics),
        timings=tuple(timings),
        early=({"step": 1, "prompt": "p1", "completion": "first", "score": 0.25, "kl": 0.0, "truncated": True},),
        late=({"step": 4, "prompt": "p4", "completion": "last", "score": 0.5, "kl": 1.5, "truncated": False},),
        first=BEFORE,
        last=AFTER,
    )
    return replace(run, **changes)


def hostile_run() -> SavedRun:
    """Everything that a model, a user or a config could have written."""
    sample = {"step": 1, "prompt": HOSTILE, "completion": HOSTILE, "score": HOSTILE, "kl": None, "truncated": HOSTILE}
    run = sample_run(f"/runs/{HOSTILE.replace('/', '')}", early=(sample,), late=(sample | {"step": 2},))
    assert run.result is not None
    return replace(
        run,
        status=replace(run.status, reason=HOSTILE),
        result=replace(run.result, texts=(SideBySide(HOSTILE, HOSTILE, f"x {HOSTILE}"),)),
        config={**run.config, "reward": {"kind": HOSTILE, "function": HOSTILE}, HOSTILE: {HOSTILE: [HOSTILE]}},
        record={**run.record, "command": ["rlhf", f"data.path={HOSTILE}"], HOSTILE: HOSTILE},
    )
