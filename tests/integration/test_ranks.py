"""A run on several processes writes the bytes of the run on one, and ends in order where one of them fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import QUICK, Outcome, contents

Rlhf = Callable[..., Outcome]

DEALT = (*QUICK, "steps=2", "checkpoint.every=1", "evaluate.every=2", "shards=2", "threads=1")


@pytest.fixture
def one(rlhf: Rlhf, tmp_path: Path) -> dict[str, bytes]:
    """What one process writes of two shards."""
    outcome = rlhf("train", *DEALT, "algorithm=ppo", "run_dir=one")
    assert outcome.code == 0, outcome.err
    return contents(tmp_path / "one")


def test_two_processes_write_the_bytes_of_one(forked: Rlhf, one: dict[str, bytes], tmp_path: Path) -> None:
    outcome = forked("train", *DEALT, "algorithm=ppo", "run_dir=two", "processes=2")
    assert outcome.code == 0, outcome.err
    assert contents(tmp_path / "two") == one
    assert (tmp_path / "two" / "ranks" / "1.log").read_text() == ""
