"""A sweep that goes on with more values: its folder, its trials, and the beta at which it compares them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rlhf_cli.config.launch import Launch, RunTrials, launch
from rlhf_cli.errors import EXIT_DISK, EXIT_RESUME, UserError
from rlhf_cli.sweep.growth import read_begun, read_known
from rlhf_cli.sweep.record import SweepRecord

from .conftest import accept, not_started


def begin(*argv: str) -> tuple[SweepRecord, list[Launch]]:
    """The record of a sweep and its jobs; each job leaves its settings behind, as a trial does."""
    records: list[SweepRecord] = []
    jobs: list[Launch] = []

    @contextmanager
    def opened(sweep: SweepRecord) -> Iterator[RunTrials]:
        sweep.write()
        records.append(sweep)
        yield lambda launches, launcher: jobs.extend(launches)

    launch(["config=tiny", "-m", *argv], not_started, check=accept, sweep=opened)
    for job in jobs:
        folder = Path(str(job.config.run_dir))
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(job.config.model_dump_json())
    return records[0], jobs


def names(jobs: list[Launch]) -> list[str]:
    return [Path(str(job.config.run_dir)).name for job in jobs]


def test_more_values_and_seeds_keep_what_is_done(cwd: Path) -> None:
    first, jobs = begin("beta=0.1,0.2", "optimizer.lr=1e-3")
    second, more = begin("optimizer.lr=0.001", "beta=0.2,0.3", "seeds=2")
    assert second.folder == first.folder
    # beta 0.2 with seed 0 is the trial of before, though its name would be another
    assert [job.config.seed for job in more] == [0, 1, 0, 1]
    assert names(more)[0] == names(jobs)[1]
    assert not {*names(more)[1:]} & {*names(jobs)}
    assert [trial.told for trial in second.trials] == [
        {"beta": "0.2", "seed": "0"},
        {"beta": "0.2", "seed": "1"},
        {"beta": "0.3", "seed": "0"},
        {"beta": "0.3", "seed": "1"},
        {"beta": "0.1"},  # of before
    ]
    assert SweepRecord.read(first.folder) == second


def test_a_trial_keeps_the_dtype_that_auto_gave_it_and_another_is_refused(cwd: Path) -> None:
    _, jobs = begin("beta=0.1,0.2", "sweep_dir=s")
    for job in jobs:  # as the trials write it
        file = Path(str(job.config.run_dir)) / "config.json"
        file.write_text(job.config.model_copy(update={"dtype": "bfloat16"}).model_dump_json())
    second, more = begin("beta=0.2,0.3", "sweep_dir=s")
    assert names(more)[0] == names(jobs)[1]
    assert len(second.trials) == 3
    with pytest.raises(UserError, match=r'^it holds a sweep of other fixed settings: dtype: .* -> "float32"'):
        begin("beta=0.4", "dtype=float32", "sweep_dir=s")


def test_a_trial_that_never_began_is_forgotten_with_its_value(cwd: Path) -> None:
    _, jobs = begin("beta=0.1,0.2,0.3")
    folder = Path(str(jobs[0].config.run_dir))
    (folder / "config.json").unlink()
    folder.rmdir()
    second, _ = begin("beta=0.2,0.3")
    assert [trial.told["beta"] for trial in second.trials] == ["0.2", "0.3"]


def test_the_yardstick_is_that_of_the_first_plan_or_of_the_option(cwd: Path) -> None:
    assert begin("beta=0.1,0.2,0.4")[0].compare_at == 0.2
    assert begin("beta=0.4,0.8,1.6")[0].compare_at == 0.2
    assert begin("beta=0.1,0.2", "--compare-at", "0.05")[0].compare_at == 0.05
    assert begin("beta=0.1,0.2")[0].compare_at == 0.05
    assert begin("beta=0.1,0.2", "--compare-at", "0", "sweep_dir=r")[0].compare_at == 0.0
    assert begin("beta=linear", "beta.end=0.02,0.03", "sweep_dir=l")[0].compare_at == 0.02
    # a controller by its first beta
    assert begin("beta=adaptive", "beta.start=0.3", "seed=0,1", "sweep_dir=t")[0].compare_at == 0.3


def test_the_record_of_an_earlier_version_gets_the_yardstick_of_its_trials(cwd: Path) -> None:
    first, _ = begin("beta=0.1,0.2,0.4")
    file = first.folder / "sweep.json"
    content = json.loads(file.read_text())
    del content["compare_at"], content["sha256"]
    file.write_text(json.dumps(content))
    assert begin("beta=0.4,0.8,1.6")[0].compare_at == 0.2


@pytest.mark.case(61)
def test_a_record_that_the_sweep_did_not_write_is_refused(cwd: Path) -> None:
    first, _ = begin("beta=0.1,0.2")
    file = first.folder / "sweep.json"
    for text in (file.read_text().replace('"compare_at": 0.1', '"compare_at": 0.3'), "{}"):
        file.write_text(text)
        with pytest.raises(UserError, match=r"^sweep.json is not what the sweep wrote") as error:
            begin("beta=0.1,0.2,0.4")
        assert error.value.exit_code == EXIT_RESUME
        assert file.read_text() == text


@pytest.mark.parametrize("name", [".lock", "multirun.yaml", "report.html"])
def test_a_pipe_in_a_files_place_is_refused_before_it_is_opened(name: str, cwd: Path) -> None:
    first, _ = begin("beta=0.1,0.2")
    (first.folder / name).unlink(missing_ok=True)
    os.mkfifo(first.folder / name)
    with pytest.raises(UserError, match=rf"^{name} is no file") as error:
        begin("beta=0.1,0.2")
    assert (error.value.exit_code, error.value.fix) == (EXIT_DISK, "move it away, or give another sweep_dir")


def test_a_trial_whose_settings_are_a_pipe_is_begun_anew(cwd: Path) -> None:
    first, jobs = begin("beta=0.1,0.2")
    settings = Path(str(jobs[0].config.run_dir)) / "config.json"
    settings.unlink()
    os.mkfifo(settings)
    known = read_known(first.folder)
    assert [trial.told for trial, _ in read_begun(known)] == [{"beta": "0.2"}]


def test_another_launcher_of_hydras_begins_no_trial_again(cwd: Path) -> None:
    """It names the folders itself: the trial would count twice, as two seeds."""
    begin("beta=0.1,0.2", "sweep_dir=s")
    with pytest.raises(
        UserError, match=r"^basic would begin the trial beta=0.1-\w+ again, as beta=0.1,seed=0-"
    ) as error:
        begin("beta=0.1,0.2", "seeds=2", "sweep_dir=s", "hydra/launcher=basic")
    assert error.value.exit_code == EXIT_RESUME


def test_a_folder_holds_one_sweep(cwd: Path) -> None:
    begin("beta=0.1,0.2", "optimizer.lr=0.001", "sweep_dir=s")
    with pytest.raises(UserError, match=r"other fixed settings: optimizer.lr: 0.001 -> 0.002") as error:
        begin("beta=0.1,0.2", "optimizer.lr=0.002", "sweep_dir=s")
    assert error.value.exit_code == EXIT_RESUME
    assert "another sweep_dir" in error.value.line()


def test_values_that_are_cut_short_alike_are_told_in_full(cwd: Path) -> None:
    for name in "abc":
        (cwd / name).mkdir()
        (cwd / name / "x.jsonl").write_text('{"prompt": "a"}\n')
    begin("data=jsonl", "data.path=a/x.jsonl", "beta=0.1,0.2", "sweep_dir=other")
    first, _ = begin("data=jsonl", "data.path=a/x.jsonl,b/x.jsonl", "sweep_dir=s")
    second, _ = begin("data=jsonl", "data.path=c/x.jsonl,b/x.jsonl", "sweep_dir=s")
    told = [trial.told["data.path"] for trial in second.trials]
    assert len({*told}) == len(told) == 3
    assert first.folder == second.folder


@pytest.mark.parametrize("value", ["much", "-1", "nan", ""])
def test_what_is_no_beta_is_refused(cwd: Path, value: str) -> None:
    with pytest.raises(UserError, match="takes a beta"):
        begin("beta=0.1,0.2", f"--compare-at={value}")


def test_a_run_has_nothing_to_compare(cwd: Path) -> None:
    with pytest.raises(UserError, match="needs -m"):
        launch(["config=tiny", "--compare-at", "0.1"], not_started, check=accept, sweep=not_started)  # type: ignore[arg-type]
