"""A real search of the tiny model, killed in the middle; it needs the extra."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.sweep.record import SweepRecord
from tests.processes import start
from tests.support import QUICK, contents

SEARCH = (
    *QUICK, "-m", "hydra/sweeper=optuna", "hydra.sweeper.trials=4", "hydra.sweeper.startup=2",
    "optimizer.lr=tag(log,interval(1e-4,1e-1))", "beta=0.02,0.2",
)  # fmt: skip


def rows(folder: Path) -> list[Any]:
    """The study's trials: their states, parameters and values."""
    with closing(sqlite3.connect(folder / "study.db")) as file:
        states = file.execute("SELECT number, state FROM trials ORDER BY number").fetchall()
        values = file.execute("SELECT trial_id, value FROM trial_values ORDER BY trial_id").fetchall()
        params = file.execute("SELECT trial_id, param_name, param_value FROM trial_params ORDER BY 1, 2").fetchall()
    return [states, values, params]


@pytest.mark.slow
def test_killed_in_the_middle_a_search_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    whole = start("train", *SEARCH, "sweep_dir=whole", cwd=tmp_path)
    _, said = whole.communicate()
    assert whole.returncode == 0, said

    def second_trial() -> Path | None:
        record = SweepRecord.read(tmp_path / "s") if (tmp_path / "s" / "sweep.json").is_file() else None
        return record.path(record.trials[1]) if record and len(record.trials) > 1 else None

    def is_training() -> bool:
        trial = second_trial()
        return trial is not None and (trial / "metrics.jsonl").is_file()

    killed = start("train", *SEARCH, "sweep_dir=s", cwd=tmp_path)
    deadline = time.monotonic() + 600
    while not is_training():
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    again = start("train", *SEARCH, "sweep_dir=s", cwd=tmp_path)
    _, said = again.communicate()
    assert again.returncode == 0, said
    assert rows(tmp_path / "s") == rows(tmp_path / "whole")
    first, second = SweepRecord.read(tmp_path / "whole"), SweepRecord.read(tmp_path / "s")
    assert first is not None
    assert second is not None
    assert [trial.told for trial in second.trials] == [trial.told for trial in first.trials]
    for trial in first.trials:
        assert contents(second.path(trial)) == contents(first.path(trial))
    page = (tmp_path / "s" / "report.html").read_text()
    assert "The search tried 4 settings:" in page
    assert "The highest held-out J is" in page
