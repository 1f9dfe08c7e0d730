"""`rlhf fork`: a fork repeats its parent where nothing changed, and differs from it by what changed alone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.commands.training import fork
from rlhf_cli.errors import EXIT_RESUME, EXIT_USAGE
from rlhf_cli.runs import forking
from tests.support import Outcome, contents, lines

Rlhf = Callable[..., Outcome]


def everything(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def parent(finished: Path, tmp_path: Path) -> Path:
    """A run of six steps, with a checkpoint after every second one and an evaluation after every third."""
    return Path(shutil.copytree(finished, tmp_path / "parent"))


def test_the_settings_of_a_fork_are_told_without_the_path_of_its_parent(
    rlhf: Rlhf, finished: Path, tmp_path: Path
) -> None:
    """The folder of a trial holds an equals sign."""
    shutil.copytree(finished, tmp_path / "beta=0.1-abc")
    assert rlhf("fork", "beta=0.1-abc@4", "temperature=1.2").code == 0
    (fork,) = tmp_path.glob("*-fork-4-*")
    runs = map(json.loads, rlhf("runs", str(tmp_path), "--json").out.splitlines())
    assert next(run["overrides"] for run in runs if run["folder"] == str(fork)) == ["temperature=1.2"]
    page = (fork / "report.html").read_text()
    assert f"rlhf fork {tmp_path}/beta=0.1-abc@4 temperature=1.2" in page
    assert "beta=0.1-abc@4 temperature=1.2 temperature" not in page


def test_a_fork_without_a_change_repeats_its_parent_which_is_only_read(rlhf: Rlhf, parent: Path) -> None:
    before = everything(parent)
    outcome = rlhf("fork", "parent@2")
    assert outcome.code == 0, outcome.err
    assert everything(parent) == before
    fork = parent.with_name("parent-fork-2-same")
    assert contents(fork) == contents(parent)
    told = json.loads((fork / "run.json").read_text())
    assert told["parent"] | {"checkpoint": ""} == {
        "folder": str(parent), "step": 2, "checkpoint": "", "changed": {},
    }  # fmt: skip
    assert re.fullmatch("[0-9a-f]{64}", told["parent"]["checkpoint"])
    assert told["command"] == ["rlhf", "fork", f"{parent}@2"]


def test_a_fork_differs_from_the_step_on_and_the_report_says_what_is_shared(rlhf: Rlhf, parent: Path) -> None:
    outcome = rlhf("fork", "parent@2", "beta=0.5", "steps=8", "display=plain", "run_dir=other")
    assert outcome.code == 0, outcome.err
    other = parent.with_name("other")
    old, new = lines(parent / "metrics.jsonl"), lines(other / "metrics.jsonl")
    assert [row["step"] for row in new] == list(range(9))
    assert new[:3] == old[:3]
    # the completions of step 3 are the same; what is learnt from them is not
    assert [row["completion"] for row in lines(other / "samples.jsonl") if row["step"] == 3] == [
        row["completion"] for row in lines(parent / "samples.jsonl") if row["step"] == 3
    ]
    assert new[4]["reward/mean"] != old[4]["reward/mean"] or new[5]["kl/seq"] != old[5]["kl/seq"]
    # the parent ended after step 6, the fork after step 8
    assert "Against the parent after step 6: same held-out prompts, same random numbers" in outcome.out
    assert "rlhf report parent other" in outcome.out
    assert rlhf("report", "parent", "other", "--output", "page.html").code == 0
    page = parent.with_name("page.html").read_text()
    assert "parent and other are the same up to step 2 and share all random numbers after it" in page
    assert "Both were evaluated after step 6." in page
    assert rlhf("report", "other").code == 0
    page = (other / "report.html").read_text()
    assert f"{parent}, step 2; beta.value: 0.01 → 0.5, steps: 6 → 8" in page
    assert f"rlhf fork {parent}@2 beta=0.5 steps=8" in page


def test_several_forks_each_in_its_folder_and_the_command_goes_on_with_them(rlhf: Rlhf, parent: Path) -> None:
    command = "fork", "parent@4", "-m", "beta=0.1,0.3", "reward.length_penalty=0.01"
    outcome = rlhf(*command, "display=plain")
    assert outcome.code == 0, outcome.err
    # what was scored otherwise is not compared
    assert outcome.out.count("No comparison with the parent: their rewards differ.") == 2
    forks = sorted(parent.parent.glob("parent-fork-4-*"))
    assert [re.findall("beta=(0.[13])", fork.name) for fork in forks] == [["0.1"], ["0.3"]]
    assert [json.loads((fork / "config.json").read_text())["beta"]["value"] for fork in forks] == [0.1, 0.3]
    (forks[1] / "result.json").unlink()
    before = everything(forks[0])
    outcome = rlhf(*command)
    assert outcome.code == 0, outcome.err
    assert {name: kept for name, kept in everything(forks[0]).items() if name.name != ".lock"} == {
        name: kept for name, kept in before.items() if name.name != ".lock"
    }
    assert (forks[1] / "result.json").is_file()


def test_a_fork_with_another_reward_is_not_compared_with_evaluations_by_the_old_one(rlhf: Rlhf, parent: Path) -> None:
    outcome = rlhf("fork", "parent@4", "reward.length_penalty=0.05", "display=plain", "run_dir=other")
    assert outcome.code == 0, outcome.err
    other = parent.with_name("other")
    assert "reward changed: evaluations up to step 4 are not compared with later ones" in outcome.err
    assert "nothing to compare: reward changed after step 4, and the evaluations with it" in outcome.err
    assert json.loads((other / "result.json").read_text())["comparison"] is None
    state = json.loads((other / "checkpoints" / "step-00000006" / "state.json").read_text())
    assert state["best"]["step"] == 6  # by the new reward, though the old one gave more before
    page = (other / "report.html").read_text()
    assert "Nothing to compare: reward changed after step 4, and the evaluations with it." in page
    # a fork from the beginning is evaluated anew there
    assert rlhf("fork", "parent@0", "reward.length_penalty=0.05", "run_dir=anew").code == 0
    assert json.loads((parent.with_name("anew") / "result.json").read_text())["comparison"] is not None


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("parent@2", "seed=1"), EXIT_USAGE, "a fork keeps seed=0"),
        (("parent@2", "-m", "seeds=3"), EXIT_USAGE, "a fork keeps seeds=1"),
        (("parent@3",), EXIT_RESUME, "no checkpoint of step 3; there are: 0, 2, 4, 6"),
        (("parent",), EXIT_USAGE, "no step is left after step 6"),
        (("parent@2", "bta=1"), EXIT_USAGE, "did you mean beta?"),
        (("parent@2", "beta=1,2"), EXIT_USAGE, "takes only key=value"),
        (("parent@2", "run_dir=taken"), EXIT_USAGE, "is there already, and is no fork of this checkpoint"),
        (("parent@2", "-m", "beta=1,2", "run_dir=x"), EXIT_USAGE, "run_dir names the folder of one fork"),
        (("nothing@2",), EXIT_RESUME, "no checkpoint of step 2; there are: none"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    rlhf: Rlhf, parent: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    parent.with_name("taken").mkdir()
    parent.with_name("taken").joinpath("file").touch()
    before = everything(parent.parent)
    outcome = rlhf("fork", *words)
    assert outcome.code == code
    assert says in outcome.err
    assert outcome.err.count("\n") == 1
    assert everything(parent.parent) == before


def test_a_fork_that_another_process_made_meanwhile_is_taken(
    rlhf: Rlhf, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rlhf("fork", "parent@4", "run_dir=other").code == 0
    before = contents(parent.with_name("other"))
    monkeypatch.setattr(fork, "has_run", lambda folder: False)  # as before it was there
    outcome = rlhf("fork", "parent@4", "run_dir=other", "display=plain")
    assert outcome.code == 0, outcome.err
    assert "is finished, nothing was changed" in outcome.out
    assert contents(parent.with_name("other")) == before


def test_a_fork_that_cannot_be_written_leaves_nothing(
    rlhf: Rlhf, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, text: str) -> str:
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(forking, "write_config", full)
    outcome = rlhf("fork", "parent@2")
    assert (outcome.code, outcome.err.count("\n")) == (6, 1)
    assert [path.name for path in parent.parent.iterdir()] == ["parent"]
