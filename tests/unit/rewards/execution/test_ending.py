"""Processes that a function starts end with its own."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support import gone
from tests.unit.rewards.execution.support import Opened, ask


@pytest.mark.case(70)
def test_children_that_left_the_group_are_ended(opened: Opened, tmp_path: Path) -> None:
    source = opened(
        """
        import os, subprocess
        def f(completions):
            of_session = subprocess.Popen(["sleep", "99"], start_new_session=True)
            without = subprocess.Popen(["sleep", "99"], start_new_session=True, env={"PATH": os.environ["PATH"]})
            other = subprocess.Popen(["setsid", "sleep", "99"])
            print(of_session.pid, without.pid, other.pid, flush=True)
            return [0] * 4
        """
    )
    ask(source)
    source.close()
    time.sleep(0.1)
    assert all(gone(int(pid)) for pid in (tmp_path / "reward.log").read_text().split())
