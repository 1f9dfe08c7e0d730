"""feedback.desk: the pairs of a run's steps, of which more come."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.feedback import session
from rlhf_cli.feedback.desk import Desk
from rlhf_cli.feedback.pairs import write_rows
from rlhf_cli.feedback.preference import Row
from rlhf_cli.feedback.session import Question
from rlhf_cli.feedback.votes import VoteFile


class Steps:
    """The files of a run, of two pairs each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files, self.notes = folder, list[Path](), list[str]()

    def leave(self, step: int) -> Path:
        """The run leaves the pairs of a step."""
        file = self.folder / "feedback" / f"step-{step:08d}-0a1b2c3d.jsonl"
        write_rows(file, [Row(f"prompt {n}", f"step {step}", "reference", None) for n in range(2)])
        self.files.append(file)
        return file

    def desk(self, rater: str = "me") -> Desk:
        return Desk(lambda: self.files, lambda: "more come", self.notes.append, rater, "random", 0)


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


@pytest.fixture
def at_second(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the clock of the votes."""

    class Clock(datetime):
        second_now = 0

        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2026, 11, 29, 0, 0, cls.second_now, tzinfo=UTC)

    monkeypatch.setattr(session, "datetime", Clock)
    return lambda second: setattr(Clock, "second_now", second)


def asked(desk: Desk) -> Question:
    question = desk.question()
    assert question is not None
    return question


def test_the_newest_step_is_asked_first_also_when_it_comes_meanwhile(steps: Steps) -> None:
    desk = steps.desk()
    assert desk.question() is None
    steps.leave(8)
    desk.answer(asked(desk), "a")
    steps.leave(16)
    seen = []
    while (question := desk.question()) is not None:
        seen.append(question.pair.a)
        desk.answer(question, "b")
    assert seen == ["step 16", "step 16", "step 8"]
    assert [len(VoteFile(file).read().lines) for file in steps.files] == [2, 2]
    assert desk.waiting() == "more come"


def test_undo_finds_the_newest_vote_in_whatever_file(steps: Steps, at_second: Callable[[int], None]) -> None:
    steps.leave(8)
    desk = steps.desk()
    first = asked(desk)
    desk.answer(first, "a")
    at_second(1)
    steps.leave(16)
    second = asked(desk)
    desk.answer(second, "b")
    again = steps.desk()  # another process knows of no last one
    assert again.undo()
    assert asked(again) == second
    assert again.undo()
    assert asked(again) == second  # the pairs of the newest step come first, those of first after it
    again.answer(second, "b")
    assert asked(again) == first
    again.answer(first, "b")
    assert [[line.vote for line in VoteFile(file).read().lines] for file in steps.files] == [
        ["a", "undo", "b"], ["b", "undo", "b"],
    ]  # fmt: skip


def test_undo_takes_the_last_vote_of_this_desk_though_the_clock_was_set_back(
    steps: Steps, at_second: Callable[[int], None]
) -> None:
    at_second(50)
    steps.leave(8)
    desk = steps.desk()
    desk.answer(asked(desk), "a")
    at_second(10)
    steps.leave(16)
    last = asked(desk)
    desk.answer(last, "b")
    assert desk.undo()
    assert asked(desk) == last
    assert desk.undo()
    assert [[line.vote for line in VoteFile(file).read().lines] for file in steps.files] == [
        ["a", "undo"],
        ["b", "undo"],
    ]


def test_undo_within_a_second_takes_the_last_vote_of_this_desk(steps: Steps, at_second: Callable[[int], None]) -> None:
    for step in (8, 16):
        steps.leave(step)
    desk = steps.desk()
    for _ in range(3):
        desk.answer(asked(desk), "a")
    assert desk.undo()
    assert asked(desk).pair.a == "step 8"


def test_a_file_that_cannot_be_read_is_passed_over(steps: Steps) -> None:
    steps.leave(8)
    steps.leave(16).write_text("{")
    desk = steps.desk()
    assert asked(desk).pair.a == "step 8"
    asked(desk)
    (note,) = steps.notes
    assert note.startswith("step-00000016-0a1b2c3d.jsonl is passed over: ")


def test_nothing_to_take_back_and_no_name(steps: Steps) -> None:
    assert not steps.desk().undo()
    with pytest.raises(UserError, match="a rater's name"):
        steps.desk(" ")
