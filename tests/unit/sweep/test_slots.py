"""How many trials at once, and what each may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlhf_cli.sweep.slots import available_gpus, slots


@pytest.mark.parametrize(
    ("jobs", "gpus", "expected"),
    [
        (None, [], [{}]),
        (1, [], [{}]),
        (2, [], [{"OMP_NUM_THREADS": "4"}] * 2),
        (3, [], [{"OMP_NUM_THREADS": "2"}] * 3),
        (16, [], [{"OMP_NUM_THREADS": "1"}] * 16),
        (None, ["0", "3"], [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "3"}]),
        (1, ["0", "3"], [{"CUDA_VISIBLE_DEVICES": "0"}]),
        (3, ["0", "3"], [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in ("0", "3", "0")]),
    ],
)
def test_slots(jobs: int | None, gpus: list[str], expected: list[dict[str, str]]) -> None:
    assert slots(jobs, gpus, 8, {}) == expected


def test_threads_that_the_user_chose_stay() -> None:
    assert slots(2, [], 8, {"OMP_NUM_THREADS": "3"}) == [{}, {}]


@pytest.mark.parametrize(
    ("named", "expected"),
    [("0,2", ["0", "2"]), (" GPU-4a , 1", ["GPU-4a", "1"]), ("", []), ("-1", []), ("1,-1,0", ["1"])],
)
def test_gpus_that_are_named(named: str, expected: list[str]) -> None:
    assert available_gpus({"CUDA_VISIBLE_DEVICES": named}) == expected


@pytest.mark.parametrize(
    ("script", "expected"), [("echo 0; echo 1", ["0", "1"]), ("echo broken driver; exit 9", [])], ids=["two", "broken"]
)
def test_gpus_that_are_listed(
    script: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert available_gpus({}) == expected


def test_no_gpus_without_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert available_gpus({}) == []
