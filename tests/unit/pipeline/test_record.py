"""run.json: the fingerprint of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_cli.pipeline.record import GROUND, _weights_fingerprint, check_ground
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.execution.process import FIXED, reward_environment
from rlhf_cli.runs.binding import write_record
from tests.unit.support import build, move_adapter, tiny


def test_the_fingerprint_is_that_of_the_frozen_weights() -> None:
    one, moved, other = build(tiny()), build(tiny(), adapter_seed=2), build(tiny(seed=1))
    move_adapter(moved)
    assert _weights_fingerprint(one) == _weights_fingerprint(moved) != _weights_fingerprint(other)
    with torch.no_grad():
        one.causal.get_input_embeddings().weight[0, 0] += 1
    assert _weights_fingerprint(one) != _weights_fingerprint(moved)


class Notes(Reporter):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def record(environment: dict[str, str] | None) -> dict[str, Any]:
    own = {"sha256": "5", "environment": environment}
    return {"data": {"sha256": "d"}, "model": {"sha256_sampled": "m"}, "reward": own} | dict.fromkeys(GROUND, "same")


@pytest.mark.parametrize(
    ("before", "now", "notes"),
    [
        ({"TZ": "UTC"}, {"TZ": "UTC"}, []),
        (None, {"TZ": "UTC"}, []),
        ({"TZ": "UTC"}, {"TZ": "CET"}, ["TZ of the reward's process changed (UTC -> CET)"]),
        ({}, {"A": "1"}, []),
        ({"A": "1", "B": "2"}, {"B": "2"}, ["A of the reward's process changed (1 -> None)"]),
    ],
)
def test_a_changed_environment_of_the_reward_is_said_on_resume(
    before: dict[str, str] | None, now: dict[str, str], notes: list[str], tmp_path: Path
) -> None:
    write_record(tmp_path, record(before))
    reporter = Notes()
    assert check_ground(tmp_path, record(now), reporter, ()) == (not notes)
    assert reporter.texts == [f"{note}: the run continues, but not bit for bit" for note in notes]


def test_the_environment_of_a_reward_names_what_is_fixed_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "here")
    monkeypatch.setenv("HF_TOKEN", "secret")
    known = reward_environment()
    assert known["PYTHONPATH"] == "here"
    assert known.items() >= FIXED.items()
    assert "HF_TOKEN" not in known
