"""The jobs of a command line: every combination, each checked before anything is made."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.config.launch import Launch, launch
from rlhf_cli.errors import UserError
from rlhf_cli.schema import RunConfig

from .conftest import not_started, sweep_with

Started = Callable[..., list[Launch]]
Refused = Callable[..., str]


def test_a_sweep_runs_every_combination_in_a_folder_named_by_it(cwd: Path, started: Started) -> None:
    trials = started("config=tiny", "-m", "beta=moderate,0.2", "temperature=0.7,linear", "steps=3")
    names = [Path(str(trial.config.run_dir)).name for trial in trials]
    assert [name[:-7] for name in names] == [
        "beta=moderate,temperature=0.7",
        "beta=moderate,temperature=linear",
        "beta=0.2,temperature=0.7",
        "beta=0.2,temperature=linear",
    ]
    assert all(re.fullmatch(r"-[0-9a-f]{6}", name[-7:]) for name in names)
    assert len({name[-6:] for name in names}) == 4
    assert [trial.config.beta.at(0, 1) for trial in trials] == [0.05, 0.05, 0.2, 0.2]
    assert [trial.config.temperature.kind for trial in trials] == ["constant", "linear"] * 2
    assert trials[2].overrides == ("config=tiny", "beta=0.2", "temperature=0.7", "steps=3")
    (sweep,) = {Path(str(trial.config.run_dir)).parent for trial in trials}
    assert sweep.parent == cwd / "outputs/sweeps"
    assert re.fullmatch(r"tiny-[0-9a-f]{6}", sweep.name)
    assert [path.name for path in sweep.iterdir()] == ["multirun.yaml"]


@pytest.mark.parametrize(
    ("beta", "temperature", "values"),
    [
        ("0.02,1e-3", "0.5", [(0.02, 0.5), (0.001, 0.5)]),
        ("choice(0.1,2)", "range(1,3)", [(0.1, 1.0), (0.1, 2.0), (2.0, 1.0), (2.0, 2.0)]),
        ("sort(3,1,2)", "1", [(1.0, 1.0), (2.0, 1.0), (3.0, 1.0)]),
    ],
)
def test_numbers_can_be_swept(started: Started, beta: str, temperature: str, values: list[tuple[float, float]]) -> None:
    jobs = started("-m", "config=tiny", f"beta={beta}", f"temperature={temperature}")
    assert [(job.config.beta.at(0, 1), job.config.temperature.at(0, 1)) for job in jobs] == values


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("config=tiny seeds=2", "several runs are a sweep and need -m (seeds)"),
        (
            "config=tiny -m seeds=2 seed=1,2",
            "the seed is swept already (seeds); fix: leave seeds or the values of seed out",
        ),
        (
            "config=tiny -m seeds=1,2",
            "all points of a sweep have the same seeds (seeds); fix: give one seed and one seeds",
        ),
        ("config=tiny -m seeds=0 beta=0.1,0.2", "job 1 of 2 (beta=0.1): seeds: must be at least 1 (got 0)"),
        ("config=tiny jobs=0", "jobs: must be at least 1 (got 0)"),
    ],
)
def test_seeds_and_jobs_that_cannot_be(refused: Refused, argv: str, line: str) -> None:
    assert refused(*argv.split()) == line


def test_every_point_has_its_own_files_seeds(cwd: Path, started: Started) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        (cwd / f"{name}.yaml").write_text(f"defaults: tiny\nseeds: 2\nseed: {seed}\n")
    found = started("-m", "config=a.yaml,b.yaml")
    assert [(job.source, job.config.seed) for job in found] == [
        (cwd / f"{name}.yaml", seed) for name in "ab" for seed in (7, 8)
    ]
    with pytest.raises(UserError, match="all points of a sweep have the same seeds"):
        started("-m", "config=a.yaml,c.yaml")


def test_every_job_of_a_sweep_is_checked_before_the_first_starts(refused: Refused) -> None:
    line = refused("config=tiny", "-m", "beta=0.1,-1", "temperature=0.7,1.0")
    assert line == "job 3 of 4 (beta=-1,temperature=0.7): beta.value: must be at least 0 (got -1)"


def test_a_check_sees_every_config_before_anything_is_made(cwd: Path) -> None:
    seen: list[RunConfig] = []

    def check(config: RunConfig) -> None:
        seen.append(config)
        if config.steps == 2:
            raise UserError("no such file", where="data.path", fix="make it", exit_code=3)

    with pytest.raises(UserError) as error:
        launch(["-m", "config=tiny", "steps=1,2,3"], not_started, check=check, sweep=sweep_with(not_started))
    assert error.value.line() == "job 2 of 3 (steps=2): no such file (data.path); fix: make it"
    assert error.value.exit_code == 3
    assert [config.steps for config in seen] == [1, 2]
    assert list(cwd.iterdir()) == []


def test_a_file_may_ask_for_a_sweep(cwd: Path, started: Started) -> None:
    (cwd / "sweep.yaml").write_text(
        "defaults: tiny\nseeds: 2\nhydra: {mode: MULTIRUN, sweeper: {params: {beta: '0.1,0.2', steps: 2}}}\n"
    )
    trials = started("config=sweep.yaml", "seed=5")
    found = [(t.config.beta.at(0, 1), t.config.steps, t.config.seed) for t in trials]
    assert found == [(0.1, 2, 5), (0.1, 2, 6), (0.2, 2, 5), (0.2, 2, 6)]  # each point's seeds, one after the other


def test_options_may_follow_overrides(started: Started) -> None:
    assert [job.config.seed for job in started("config=tiny", "seed=1,2", "--multirun")] == [1, 2]
