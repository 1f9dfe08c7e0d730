"""launch: one job or a sweep, checked before anything is made, each in a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from rlhf_cli.config import jobs
from rlhf_cli.config.compose import Launch, RunTrials, amend, compose_config, launch
from rlhf_cli.config.keys import fields
from rlhf_cli.config.options import groups, options
from rlhf_cli.errors import EXIT_DISK, EXIT_SWEEP, Stopped, UserError
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.record import SweepRecord

Started = Callable[..., list[Launch]]
Refused = Callable[..., str]


def hydra_record(folder: str | None, name: str) -> object:
    return yaml.safe_load((Path(folder or "") / ".hydra" / name).read_text())


def test_a_run_gets_a_folder_of_its_second_and_hydras_record(cwd: Path, started: Started) -> None:
    argv = list(sys.argv)
    (job,) = started("config=tiny", "beta=0.1", "steps=3")
    folder = job.config.run_dir
    assert re.fullmatch(rf"{re.escape(str(cwd))}/outputs/\d{{4}}-\d\d-\d\d/\d\d-\d\d-\d\d", str(folder))
    assert (job.config.steps, job.config.beta.at(0, 1), job.source) == (3, 0.1, None)
    assert job.overrides == ("config=tiny", "beta=0.1", "steps=3")
    assert hydra_record(folder, "overrides.yaml") == ["config='tiny'", "beta='0.1'", "steps=3"]
    assert isinstance(hydra_record(folder, "config.yaml"), dict)
    assert [path.name for path in Path(str(folder)).iterdir()] == [".hydra"]  # no train.log
    assert Path.cwd() == cwd
    assert sys.argv == argv  # lent to hydra's main, not given


def test_an_explicit_run_dir_is_used_as_it_is(cwd: Path, started: Started) -> None:
    for _ in range(2):  # whether it holds a run is for others to decide
        (job,) = started("run_dir=my runs/a", "config=tiny")
        assert job.config.run_dir == str(cwd / "my runs/a")
    assert (cwd / "my runs/a/.hydra").is_dir()
    assert not (cwd / "outputs").exists()


def test_a_folder_that_cannot_be_made_is_a_disk_error(cwd: Path) -> None:
    (cwd / "file").touch()
    with pytest.raises(UserError, match="cannot be made: Not a directory") as error:
        launch(["config=tiny", "run_dir=file/run"], lambda job: None)
    assert error.value.exit_code == EXIT_DISK


def test_runs_of_the_same_second_get_different_folders(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [jobs._reserved(Path("outputs/x/10-00-00")).name for _ in range(4)]
    assert folders == ["10-00-00", "10-00-00-2", "10-00-00-3", "10-00-00-4"]


def test_processes_of_the_same_second_get_different_folders(cwd: Path) -> None:
    code = "from rlhf_cli.config.jobs import _reserved as r, Path\nfor _ in range(50): print(r(Path('o/x').absolute()))"
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    made = [line for run in runs for line in run.communicate()[0].split()]
    assert len(set(made)) == len(made) == 100
    assert set(map(str, (cwd / "o").iterdir())) == set(made)


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
    assert {path.name for path in sweep.iterdir()} == {*names, "multirun.yaml"}


def test_another_launcher_of_hydras_runs_the_trials_in_its_own_way(started: Started) -> None:
    trials = started("config=tiny", "-m", "beta=moderate,0.2", "steps=3", "hydra/launcher=basic")
    records = [hydra_record(trial.config.run_dir, "overrides.yaml") for trial in trials]
    assert records == [["config='tiny'", f"beta='{beta}'", "steps=3"] for beta in ("moderate", "0.2")]
    assert [trial.config.resume for trial in trials] == ["auto", "auto"]  # again, it goes on


def test_our_launcher_hands_all_trials_over_at_once(cwd: Path) -> None:
    given: list[SweepRecord | Sequence[Launch]] = []

    @contextmanager
    def opened(sweep: SweepRecord) -> Iterator[RunTrials]:
        given.append(sweep)
        yield given.append
        given.append([])

    argv = ["config=tiny", "-m", "beta=0.1,0.2", "seeds=2", "data.path='a b'", "data=jsonl"]
    launch(argv, lambda job: pytest.fail("in this process"), sweep=opened)
    sweep, trials, last = given
    assert isinstance(sweep, SweepRecord)
    assert last == []
    assert sweep.command == "rlhf train config=tiny -m beta=0.1,0.2 seeds=2 'data.path='\"'\"'a b'\"'\"'' data=jsonl"
    folders = [Path(str(trial.config.run_dir)) for trial in trials]
    assert folders == [sweep.path(trial) for trial in sweep.trials]
    assert [trial.told for trial in sweep.trials] == [
        {"beta": beta, "seed": seed} for beta in ("0.1", "0.2") for seed in ("0", "1")
    ]
    # what a trial's process is given composes the same config, and is one run
    for trial in trials:
        first, *rest = trial.arguments
        assert first == "train"
        alone = compose_config(rest)
        assert alone.model_copy(update={"seeds": 2, "display": "auto"}) == trial.config


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


def test_a_sweep_has_the_folder_of_what_is_to_be_run(started: Started) -> None:
    def folder(*argv: str) -> str:
        return Path(str(started("config=tiny", "-m", "beta=0.1,0.2", *argv)[0].config.run_dir)).parent.name

    assert folder() == folder("steps=9", "display=quiet", "jobs=2", "checkpoint.every=3")
    assert len({folder(), folder("seeds=2"), folder("optimizer.lr=1e-5"), folder("temperature=0.5")}) == 4


def test_every_point_has_its_own_files_seeds(cwd: Path, started: Started) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        (cwd / f"{name}.yaml").write_text(f"defaults: tiny\nseeds: 2\nseed: {seed}\n")
    found = started("-m", "config=a.yaml,b.yaml")
    assert [(job.source, job.config.seed) for job in found] == [
        (cwd / f"{name}.yaml", seed) for name in "ab" for seed in (7, 8)
    ]
    with pytest.raises(UserError, match="all points of a sweep have the same seeds"):
        started("-m", "config=a.yaml,c.yaml")


def test_trials_of_the_same_short_name_are_told_by_the_whole(cwd: Path) -> None:
    for name in ("a", "b"):
        (cwd / name).mkdir()
        (cwd / name / "my.yaml").write_text("defaults: tiny\n")
    seen: list[SweepRecord] = []

    @contextmanager
    def opened(sweep: SweepRecord) -> Iterator[RunTrials]:
        seen.append(sweep)
        yield lambda launches: None

    launch(["-m", "config=a/my.yaml,b/my.yaml"], lambda job: None, sweep=opened)
    assert [trial.told for trial in seen[0].trials] == [{"config": str(cwd / name / "my.yaml")} for name in "ab"]


def test_a_sweep_of_one_point_is_found_again_with_more_steps(started: Started) -> None:
    names = {
        Path(str(started("config=tiny", "-m", "seed=3", f"steps={n}", "sweep_dir=s")[0].config.run_dir)) for n in (1, 2)
    }
    (name,) = names
    assert name.name.startswith("only-")


def test_more_steps_are_the_same_trial(started: Started) -> None:
    def names(*argv: str) -> list[str]:
        return [Path(str(one.config.run_dir)).name for one in started("config=tiny", "-m", "beta=0.1,0.2", *argv)]

    assert names("steps=3") == names("steps=5", "display=quiet") == names()
    assert names("seed=1") != names()


def test_trial_names_are_stable_and_safe(cwd: Path, started: Started) -> None:
    files = [cwd / "a b" / f"{name}.yaml" for name in ("one", "two")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("model: tiny\ndata: tiny\nreward: characters\n")
    argv = ["-m", f"config={files[0]},{files[1]}", "reward.characters='/a: b',é,\"" + "x" * 200 + '"', "sweep_dir=s"]
    first, second = started(*argv), started(*argv)
    names = [Path(str(job.config.run_dir)).name for job in first]
    assert names == [Path(str(job.config.run_dir)).name for job in second]
    assert [name[:-7] for name in names[:2]] == ["config=one,reward.characters=_a_b_", "config=one,reward.characters=_"]
    assert len(names[2]) == 87
    assert [job.source for job in first] == [files[0]] * 3 + [files[1]] * 3
    assert {Path(str(job.config.run_dir)).parent for job in first} == {cwd / "s"}


@pytest.mark.parametrize(
    ("values", "betas"),
    [
        ("0.02,0.2", [0.02, 0.2]),
        ("1e-3,2", [0.001, 2.0]),
        ("choice(0.1,0.2)", [0.1, 0.2]),
        ("range(1,4)", [1.0, 2.0, 3.0]),
        ("sort(3,1,2)", [1.0, 2.0, 3.0]),
        ("0.5", [0.5]),
    ],
)
def test_numbers_can_be_swept(started: Started, values: str, betas: list[float]) -> None:
    assert [job.config.beta.at(0, 1) for job in started("-m", "config=tiny", f"beta={values}")] == betas


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
        launch(["-m", "config=tiny", "steps=1,2,3"], lambda job: pytest.fail("started"), check=check)
    assert error.value.line() == "job 2 of 3 (steps=2): no such file (data.path); fix: make it"
    assert error.value.exit_code == 3
    assert [config.steps for config in seen] == [1, 2]
    assert list(cwd.iterdir()) == []


def test_a_file_may_ask_for_a_sweep(cwd: Path, started: Started) -> None:
    (cwd / "sweep.yaml").write_text(
        "defaults: tiny\nhydra: {mode: MULTIRUN, sweeper: {params: {beta: '0.1,0.2', steps: 2}}}\n"
    )
    trials = started("config=sweep.yaml", "seed=5")
    assert [(t.config.beta.at(0, 1), t.config.steps, t.config.seed) for t in trials] == [(0.1, 2, 5), (0.2, 2, 5)]


@pytest.mark.parametrize("launcher", ["processes", "basic"])
def test_failed_trials_are_named_and_do_not_stop_the_others(launcher: str, capsys: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []

    def task(job: Launch) -> None:
        if job.config.steps == 2:
            raise UserError("the reward fell over", exit_code=4)
        done.append(job.config.steps)

    with pytest.raises(UserError, match=r"^1 of 3 jobs failed: job 2 of 3 \(steps=2\)$") as error:
        launch(["-m", "config=tiny", "steps=1,2,3", f"hydra/launcher={launcher}"], task)
    assert (error.value.exit_code, done) == (EXIT_SWEEP, [1, 3])
    assert capsys.readouterr().err == "error: job 2 of 3 (steps=2): the reward fell over\n"


@pytest.mark.parametrize("error", [UserError("no disk", exit_code=6), RuntimeError("a bug"), Stopped("Ctrl-C")])
def test_what_a_run_raises_comes_out_unchanged(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    def task(job: Launch) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        launch(["config=tiny"], task)
    assert raised.value is error
    assert capsys.readouterr() == ("", "")


def test_a_bug_stops_a_sweep_at_once() -> None:
    seen: list[Launch] = []

    def task(job: Launch) -> None:
        seen.append(job)
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        launch(["-m", "config=tiny", "steps=1,2"], task)
    assert len(seen) == 1


def test_cfg_shows_the_job_and_makes_nothing(cwd: Path, capsys: pytest.CaptureFixture[str], started: Started) -> None:
    assert started("--cfg", "job", "config=tiny", "beta=0.3") == []
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["beta"] == {"kind": "constant", "value": 0.3}
    assert set(shown) == set(RunConfig.model_fields)
    assert started("config=tiny", "-c", "hydra") == []
    assert "MULTIRUN" not in capsys.readouterr().out
    assert list(cwd.iterdir()) == []


def test_cfg_does_not_ask_for_files_to_exist(capsys: pytest.CaptureFixture[str]) -> None:
    launch(["--cfg", "job", "config=tiny"], print, check=lambda config: pytest.fail("checked"))
    assert capsys.readouterr().out.startswith("model:")


def test_cfg_of_a_bad_config_is_refused(refused: Refused) -> None:
    assert refused("--cfg", "job", "stpes=3") == "unknown setting 'stpes'; did you mean steps?"


def test_help_is_a_page_of_80_columns_whatever_else_is_typed(
    cwd: Path, capsys: pytest.CaptureFixture[str], started: Started
) -> None:
    assert started("--help", "algorithm=ppoo", "-m") == []
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for line in ("algorithm: dapo, dr_grpo, grpo, ppo, reinforce, rloo", "model: pretrained, smollm2, tiny"):
        assert line in lines
    (first,) = [number for number, line in enumerate(lines) if line.startswith("reward: characters, ")]
    assert lines[first + 1].startswith("  ")  # there are more than a line holds
    assert {word for line in lines[first : first + 2] for word in re.findall(r"\w+", line)} == {
        "reward",
        *options("reward"),
    }
    assert list(cwd.iterdir()) == []


def test_help_names_every_key_outside_the_groups_and_none_that_is_not(
    capsys: pytest.CaptureFixture[str], started: Started
) -> None:
    assert started("--help") == []
    page = capsys.readouterr().out
    words = set(re.findall(r"\b[a-z][a-z_.]+\b", page[page.index("Keys people type") : page.index("\nOptions")]))
    holds_more = {key.rpartition(".")[0] for key in fields()}
    assert words >= {key for key in fields() if key.split(".")[0] not in groups()} - holds_more
    assert {word for word in words if "_" in word or "." in word} <= fields().keys()


@pytest.mark.parametrize("argv", [["--info", "defaults"], ["--info"], ["--hydra-help"]])
def test_info_always_works(cwd: Path, argv: list[str]) -> None:
    code = "import sys; from rlhf_cli.config.compose import launch; launch(sys.argv[1:], print)"
    done = subprocess.run([sys.executable, "-c", code, *argv, "steps=-1"], capture_output=True, text=True, check=True)
    assert "hydra" in done.stdout
    assert done.stderr == ""
    assert list(cwd.iterdir()) == []


def test_a_task_may_compose_and_amend_on_its_own() -> None:
    betas: list[float] = []

    def task(job: Launch) -> None:
        assert compose_config(["config=tiny"]).beta != job.config.beta
        betas.append(amend(job.config.model_dump(mode="json"), ["beta=0.3"]).beta.at(0, 1))

    launch(["-m", "config=tiny", "beta=0.1,0.2"], task)
    assert betas == [0.3, 0.3]


def test_options_may_follow_overrides(started: Started) -> None:
    assert [job.config.seed for job in started("config=tiny", "seed=1,2", "--multirun")] == [1, 2]


def test_composing_loads_no_torch(cwd: Path) -> None:
    code = "import sys; from rlhf_cli.config.compose import compose_config as c; c([]); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_the_default_folders_carry_the_date(started: Started) -> None:
    (job,) = started("config=tiny")
    assert datetime.now().strftime("/outputs/%Y-%m-") in str(job.config.run_dir)


def test_hydras_own_run_dir_is_heeded(cwd: Path, started: Started) -> None:
    (job,) = started("config=tiny", "hydra.run.dir=elsewhere/x")
    assert job.config.run_dir == str(cwd / "elsewhere/x")


def test_compose_config_needs_no_folder(cwd: Path) -> None:
    assert compose_config(["config=tiny", "steps=9"]).steps == 9
    assert compose_config([]).run_dir is None
    assert compose_config(["run_dir=~/r"]).run_dir == os.path.expanduser("~/r")
    assert list(cwd.iterdir()) == []
