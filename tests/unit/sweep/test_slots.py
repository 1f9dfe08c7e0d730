"""How many trials at once, and what each may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlhf_cli.sweep.slots import available_gpus, share, slots


@pytest.mark.parametrize(("jobs", "threads"), [(1, 0), (2, 4), (3, 2), (16, 1)])
def test_a_trial_has_its_share_of_the_cores(jobs: int, threads: int) -> None:
    assert share(jobs, 8, {}) == threads
    assert share(jobs, 8, {"OMP_NUM_THREADS": "3"}) == 3
    assert share(jobs, 8, {"OMP_NUM_THREADS": "4,2"}) == 0  # what torch makes of it


@pytest.mark.parametrize(
    ("jobs", "gpus", "threads", "expected"),
    [
        (None, [], 0, [{}]),
        (2, [], 0, [{}] * 2),
        (1, [], 4, [{"OMP_NUM_THREADS": "4"}]),
        (3, [], 2, [{"OMP_NUM_THREADS": "2"}] * 3),
        (None, ["0", "3"], 2, [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "3"}]),
        (1, ["0", "3"], 0, [{"CUDA_VISIBLE_DEVICES": "0"}]),
        (3, ["0", "3"], 0, [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in ("0", "3", "0")]),
    ],
)
def test_slots(jobs: int | None, gpus: list[str], threads: int, expected: list[dict[str, str]]) -> None:
    assert slots(jobs, gpus, threads) == expected


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
