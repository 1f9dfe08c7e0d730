"""Sweeps made by hand: folders as trials leave them behind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_cli.sweep.record import Ending, SweepRecord, Trial
from tests.unit.evaluation.samples import evaluation as evaluation_of
from tests.unit.support import config_fields

STEPS = 4
EVALUATE = {"every": 2, "prompts": 4, "samples": 2}
SPREAD = (-0.1, 0.1, -0.1, 0.1)
"""By how much the rewards of the four held-out prompts differ from their mean."""
OTHER = {"kind": "model", "path": "teacher", "revision": None, "adapter": None}
"""A reference that is another model."""
START = 0.2
"""Mean reward of the reference."""
TABLE = {("0.1", "0.7"): (0.60, 2.0), ("0.1", "1"): (0.50, 0.8), ("0.2", "0.7"): (0.35, 1.0), ("0.2", "1"): (0.30, 0.2)}
"""Reward and KL by beta and temperature. J at 0.1: 0.40, 0.42, 0.25, 0.28; the third is dominated by the second."""


def evaluation(step: int, beta: float, reward: Sequence[float], kl: float) -> dict[str, Any]:
    """A row of evaluations.jsonl: two completions a prompt, 0.02 apart."""
    rewards = [[one - 0.01, one + 0.01] for one in reward]
    return replace(evaluation_of(rewards, step, beta), kl=[[kl, kl]] * len(reward), length=[[7, 9]] * len(reward)).row()


def write_lines(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A jsonl file."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_trial(folder: Path, reward: Sequence[float], kl: float, *, seed: int = 0, **config: Any) -> None:
    """A finished trial whose last evaluation has these mean rewards, one a prompt, and this KL."""
    fields = config_fields(**{"steps": STEPS, "evaluate": EVALUATE, "seed": seed} | config)
    beta, shift = fields["beta"]["value"], seed / 100
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "result.json").write_text(json.dumps({"step": STEPS}))
    start = [START + shift + one for one in SPREAD]
    half = [(a + b) / 2 for a, b in zip(start, reward, strict=True)]
    rows = [evaluation(0, beta, start, 0.0), evaluation(2, beta, half, kl / 2), evaluation(4, beta, reward, kl)]
    write_lines(folder / "evaluations.jsonl", rows)
    steps = [{"step": step, "reward/mean": 0.1 * step, "kl/seq": 0.5 * step} for step in range(1, STEPS + 1)]
    write_lines(folder / "metrics.jsonl", [{"step": 0, "eval/objective": 0.2}, *steps])
    Ending(0, "").write(folder)


def constant(value: str) -> dict[str, Any]:
    """A schedule of one value."""
    return {"kind": "constant", "value": float(value)}


def two_by_two(folder: Path, *, seeds: Sequence[int] = (0, 1), noise: float = 0.0, **config: Any) -> SweepRecord:
    """The sweep of TABLE. With `noise` the prompts of the first point have that much more and less, in turn."""
    trials = []
    for (beta, temperature), (reward, kl) in TABLE.items():
        more = noise if (beta, temperature) == ("0.1", "0.7") else 0.0
        for seed in seeds:
            told = {"beta": beta, "temperature": temperature} | ({"seed": str(seed)} if len(seeds) > 1 else {})
            trial = Trial(",".join(f"{key}={value}" for key, value in told.items()) + "-abc", told)
            rewards = [reward + seed / 100 + one + more * (-1) ** place for place, one in enumerate(SPREAD)]
            schedules = {"beta": constant(beta), "temperature": constant(temperature)}
            write_trial(folder / trial.name, rewards, kl, seed=seed, **schedules | config)
            trials.append(trial)
    sweep = SweepRecord(folder, "rlhf train -m beta=0.1,0.2 temperature=0.7,1", tuple(trials))
    sweep.write()
    return sweep
