"""Names of trials: stable, safe, and different from each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhf_cli.config.launch import Launch, RunTrials, launch
from rlhf_cli.sweep.record import SweepRecord

from .conftest import accept, not_started

Started = Callable[..., list[Launch]]
Refused = Callable[..., str]


def test_trials_of_the_same_short_name_are_told_by_the_whole(cwd: Path) -> None:
    for name in ("a", "b"):
        (cwd / name).mkdir()
        (cwd / name / "my.yaml").write_text("defaults: tiny\n")
    seen: list[SweepRecord] = []

    @contextmanager
    def opened(sweep: SweepRecord) -> Iterator[RunTrials]:
        seen.append(sweep)
        yield lambda launches, launcher: None

    launch(["-m", "config=a/my.yaml,b/my.yaml"], not_started, check=accept, sweep=opened)
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

    plain = names()
    assert plain == names("steps=5", "display=quiet")
    assert plain != names("seed=1")


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
