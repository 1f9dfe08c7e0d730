"""display.sweep: the lines and the table of a sweep while it runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_cli.display.sweep import show_trials
from rlhf_cli.sweep.pool import Job, Standing, State


def standing(state: State, number: int | None = None) -> Standing:
    job = Job(f"lr={number}", Path("nowhere"), (), 4, "settings", is_done=False, number=number)
    return Standing(job, state)


@pytest.mark.parametrize(
    ("standings", "total", "said"),
    [
        ([standing("waiting"), standing("running")], 0, "trial 2 of 2 (lr=None) ...\n"),
        ([standing("running", 1)], 20, "trial 1 of 20 (lr=1) ...\n"),
        ([standing("running", 17)], 20, "trial 17 of 20 (lr=17) ...\n"),
        ([standing("running", 5)], 3, "trial 5 of 5 (lr=5) ...\n"),  # asked for before the number was lowered
    ],
)
def test_a_line_says_which_trial_of_how_many(
    standings: list[Standing], total: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with show_trials("plain", total) as show:
        show(standings)
        show(standings)
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("standings", "total", "said"),
    [
        (
            [standing("waiting"), standing("running")],
            0,
            "2 trials: 0 finished, 0 failed, 0 stopped, 1 running, 1 waiting",
        ),
        ([standing("running", 1)], 20, "20 trials: 0 finished, 0 failed, 0 stopped, 1 running, 19 waiting"),
        (
            [standing("finished", 16), standing("running", 17)],
            20,
            "20 trials: 15 before, 1 finished, 0 failed, 0 stopped, 1 running, 3 waiting",
        ),
    ],
)
def test_the_counts_of_the_table_add_up_to_all_trials(
    standings: list[Standing], total: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with show_trials("live", total) as show:
        show(standings)
    assert capsys.readouterr().err.splitlines()[-1].rstrip() == said


def test_a_name_with_brackets_and_a_metric_that_is_null_are_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    found = standing("running")
    found.job = replace(found.job, name="model.lora.target_modules=[q_proj,v_proj]")
    found.step, found.metrics = 2, json.loads('{"objective": null, "reward/mean": 0.5}')
    with show_trials("live") as show:
        show([found])
    (row,) = (line for line in capsys.readouterr().err.splitlines() if "target_modules" in line)
    assert row.split() == ["model.lora.target_modules=[q_proj,v_proj]", "running", "2/4", "+nan", "+0.500", "nan"]
