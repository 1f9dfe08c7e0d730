"""Votes that arrive while a run trains, dies and is resumed: they change what is logged of people, and nothing else."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.cli import run
from rlhf_cli.feedback.readings import queued_files, read_readings
from rlhf_cli.feedback.votes import VoteFile
from rlhf_cli.pipeline import loop
from tests.processes import start
from tests.reliability.voting import cast, stop_after, vote_meanwhile
from tests.support import Outcome, contents, lines

Rlhf = Callable[..., Outcome]

ASKING = (
    "config=tiny", "model.layers=1", "steps=8", "prompts_per_step=2", "samples_per_prompt=2", "max_new_tokens=3",
    "evaluate.every=2", "evaluate.human=2", "evaluate.prompts=4", "evaluate.samples=2", "checkpoint.every=2",
    "checkpoint.keep=99", "checkpoint.keep_best=false", "display=quiet",
)  # fmt: skip
VOTING = "from tests.reliability.voting import *; vote_meanwhile()"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that people voted on and that was never interrupted; leave it as it is."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "complete", loop.complete)  # as it is now, again afterwards
        vote_meanwhile()
        assert run(["train", *ASKING, f"run_dir={folder}"]) == 0
    return folder


def without_people(folder: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in row.items() if not key.startswith("human/")}
        for row in lines(folder / "metrics.jsonl")
    ]


def learnt(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if name != "metrics.jsonl"}


def test_votes_are_logged_on_the_line_after_they_came(whole: Path) -> None:
    said = {row["step"]: row for row in lines(whole / "metrics.jsonl") if "human/waiting" in row}
    assert [*said] == [2, 3, 4, 6, 7, 8]
    assert [said[step].get("human/step") for step in said] == [None, 2, 2, 2, 6, 6]
    assert [said[step].get("human/votes") for step in said] == [None, 1, 2, 2, 2, 2]


def test_a_vote_changes_nothing_that_is_learnt(whole: Path, rlhf: Rlhf) -> None:
    assert rlhf("train", *ASKING, "evaluate.human=0", "run_dir=out").code == 0
    assert without_people(whole) == lines(Path("out/metrics.jsonl"))
    assert learnt(Path("out")) == learnt(whole)
    assert not Path("out/feedback").exists()


@pytest.mark.parametrize("step", [0, 2, 6])
def test_gone_back_to_any_checkpoint_it_reads_the_same_votes(step: int, whole: Path, rlhf: Rlhf) -> None:
    """Though more have come meanwhile, and one was edited."""
    shutil.copytree(whole, "out")
    cast(Path("out"), "bbbb", "late")
    first = VoteFile(queued_files(Path("out"))[0]).file
    first.write_text(first.read_text().replace('"vote": "b"', '"vote": "a"'))
    outcome = rlhf("train", f"resume=out/checkpoints/step-{step:08d}")
    assert outcome.code == 0, outcome.err
    assert contents(Path("out")) == contents(whole)
    assert read_readings(Path("out")) == read_readings(whole)


def test_a_verification_reads_the_same_votes(whole: Path, rlhf: Rlhf) -> None:
    shutil.copytree(whole, "out")
    cast(Path("out"), "bbbb", "late")
    outcome = rlhf("verify-resume", "out")
    assert outcome.code == 0, outcome.err


def test_stopped_and_gone_on_with_votes_in_between(whole: Path, rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was logged stays; the first line after it has the votes of the pause; the rest is as without them."""
    monkeypatch.setattr(loop, "complete", loop.complete)
    vote_meanwhile()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "complete", loop.complete)
        stop_after(5)
        assert rlhf("train", *ASKING, "run_dir=out", "checkpoint.every=99").code == 75
    cast(Path("out"), "aaaa", "in the pause")
    assert rlhf("train", "resume=out").code == 0
    found, was = lines(Path("out/metrics.jsonl")), lines(whole / "metrics.jsonl")
    assert found[:6] == was[:6]
    assert (found[6]["human/step"], found[6]["human/votes"]) == (4, 4)
    assert without_people(Path("out")) == without_people(whole)
    assert learnt(Path("out")) == learnt(whole)


@pytest.mark.parametrize(
    ("name", "half", "votes"), [("queue.jsonl", True, 4), ("queue.jsonl", False, 2), ("metrics.jsonl", True, 2)]
)
def test_killed_between_a_vote_and_its_line(name: str, half: bool, votes: int, whole: Path, rlhf: Rlhf) -> None:
    """Two votes come before step 7, where the run is killed, and two after its death.

    Votes whose reading was written are read at step 7 again, without those that came later.
    """
    before = f"{VOTING}; die_at({name!r}, 7, {half})"
    process = start("train", *ASKING, "run_dir=out", cwd=Path.cwd(), before=before)
    process.communicate()
    assert process.wait() == -signal.SIGKILL
    cast(Path("out"), "tt", "late")
    outcome = rlhf("train", "resume=out")
    assert outcome.code == 0, outcome.err
    found, was = lines(Path("out/metrics.jsonl")), lines(whole / "metrics.jsonl")
    assert found[:7] == was[:7]
    assert found[7]["human/votes"] == votes
    assert found[8].get("human/votes") == 4
    assert (found[7] == was[7]) == (votes == 2)
    assert without_people(Path("out")) == without_people(whole)
    assert learnt(Path("out")) == learnt(whole)
