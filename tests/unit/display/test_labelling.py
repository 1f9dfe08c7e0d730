"""display.labelling: by keys on a terminal, by lines on a pipe."""

from __future__ import annotations

import io
import os
import pty
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from rlhf_cli.display.labelling import label, show_lines
from rlhf_cli.errors import Stopped
from rlhf_cli.feedback.desk import Desk
from rlhf_cli.feedback.pairs import write_rows
from rlhf_cli.feedback.preference import Row
from rlhf_cli.feedback.saying import describe, describe_rate
from rlhf_cli.feedback.session import Question
from rlhf_cli.feedback.tally import Tally, tally
from rlhf_cli.feedback.votes import VoteFile
from tests.unit.feedback.samples import pairs_of, vote

ANSI = "\x1b]0;owned\x07\u202e<script>"


@pytest.fixture
def votes(tmp_path: Path) -> VoteFile:
    return VoteFile(tmp_path / "pairs.jsonl")


@pytest.fixture
def type_lines(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def files_of(votes: VoteFile, first: str, count: int) -> Callable[[], list[Path]]:
    file = votes.file.with_name("pairs.jsonl")
    write_rows(file, [Row(f"prompt {n}", first, f"second {n}", None) for n in range(count)])
    return lambda: [file]


def desk(votes: VoteFile) -> Desk:
    return Desk(files_of(votes, f"first {ANSI}", 5), lambda: None, print, "me", "random", 0)


def test_lines_of_a_pipe(
    votes: VoteFile, type_lines: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    type_lines("1\n2\nwhat?\nn  a reason \nt\nu\nu\nb\ns\n")
    label(desk(votes), None)
    lines = votes.read().lines
    first, second = lines[:2]
    assert (first.vote == first.left, second.vote == second.left) == (True, False)
    assert [(line.vote, line.note) for line in lines[2:]] == [
        ("tie", "a reason"), ("undo", ""), ("undo", ""), ("both_bad", ""), ("skip", ""),
    ]  # fmt: skip
    assert lines[5].pair == second.pair
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("saved") == 5
    assert err.count("taken back") == 2
    assert "pair 1 of 5" in err
    assert err.count("1 first  2 second") == 9  # with every question, and once for what is no key
    assert err.count("pair ") == 8


def test_a_vote_of_another_window_stays(
    votes: VoteFile, type_lines: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The other window votes on the pair that is shown here, and on the next one."""
    one, other = desk(votes), desk(votes)
    question = one.question

    def asked() -> Question | None:
        found = question()
        if found is not None and found.number == 1:
            for _ in range(2):
                theirs = other.question()
                assert theirs is not None
                other.answer(theirs, "tie")
        return found

    one.question = asked  # type: ignore[method-assign]  # the moment between question and answer
    type_lines("1\n2\n")
    label(one, None)
    assert [line.vote for line in votes.read().lines][:2] == ["tie", "tie"]
    assert len({line.pair for line in votes.read().lines}) == 3
    assert "this pair has a vote of yours from another window, which stays" in capsys.readouterr().err


def test_where_nobody_reads_the_questions_it_stops(
    votes: VoteFile, type_lines: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(os, "dup2", lambda *handles: None)  # it would be the stderr of all tests
    monkeypatch.setattr(sys, "stderr", open(writer, "w", encoding="utf-8"))  # noqa: SIM115 - closed below
    type_lines("1\n")
    with pytest.raises(Stopped, match="nobody reads"):
        label(desk(votes), None)
    with suppress(BrokenPipeError):
        sys.stderr.close()
    assert votes.read().lines == ()


def test_model_text_is_shown_as_text(
    votes: VoteFile, type_lines: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    type_lines("")
    label(desk(votes), None)
    err = capsys.readouterr().err
    assert "<U+001B>]0;owned<U+0007><U+202E><script>" in err
    assert not {"\x1b]", "\x07", "\u202e"} & {err[place : place + 2] for place in range(len(err))}
    assert not {"\x07", "\u202e"} & set(err)


def test_keys_of_a_terminal(
    votes: VoteFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    master, slave = pty.openpty()
    pressed = iter([b"1", b"\x1b[A", b"T", b"q"])
    real = os.read

    def read(handle: int, size: int) -> bytes:
        os.write(master, next(pressed))
        return real(handle, size)

    with open(slave, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr("rlhf_cli.display.typed.os.read", read)
        label(desk(votes), None)
    os.close(master)
    assert [line.vote for line in votes.read().lines][1:] == ["tie"]
    assert len(votes.read().lines) == 2


class Coming(Desk):
    """A desk whose pairs come after some looks; none come after the last of them."""

    def __init__(self, votes: VoteFile, looks: list[int]) -> None:
        super().__init__(files_of(votes, "first", 4), self._look, print, "me", "random", 0)
        self._looks, self._there = looks, 0

    def question(self) -> Question | None:
        found = super().question()
        return found if found is not None and found.number <= self._there else None

    def _look(self) -> str | None:
        if self._looks:
            self._there = self._looks.pop(0)
            return "no pair waits"
        return None


@pytest.mark.parametrize(
    ("typed", "looks", "cast"),
    [
        ("1\n1\n1\n1\n", [0, 0, 1, 1, 3, 4], 4),
        ("1\n", [0, 0, 1, 1, 3, 4], 1),
        ("1\nq\n", [0, 1, 1, 1, 4], 1),
        ("1\n1\n1\n1\n", [0, 2], 2),
        ("", [0, 4], 0),
    ],
)
def test_pairs_that_come_while_somebody_waits(
    typed: str, looks: list[int], cast: int, votes: VoteFile, type_lines: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("rlhf_cli.display.labelling.WAIT_S", 0.0)
    type_lines(typed)
    label(Coming(votes, [*looks]), None)
    assert len(votes.read().lines) == cast
    assert "no pair waits; q leaves" in capsys.readouterr().err


def test_nothing_to_take_back(
    votes: VoteFile, type_lines: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    type_lines("u\n")
    label(desk(votes), None)
    assert "nothing to take back" in capsys.readouterr().err
    assert votes.read().lines == ()


def test_the_win_rate_is_shown_to_those_who_ask(
    votes: VoteFile, type_lines: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    type_lines("")
    label(desk(votes), lambda: "a wins 50 %")
    assert "pair 1 of 5  a wins 50 %" in capsys.readouterr().err


def counted(*words: str) -> Tally:
    from rlhf_cli.feedback.votes import Votes

    pairs = pairs_of(10)
    lines = [vote(p, w, chance=1 / (10 - n)) for n, (p, w) in enumerate(zip(pairs, words, strict=False))]
    return tally(Votes(tuple(lines), ()), pairs)


def test_what_the_votes_say(capsys: pytest.CaptureFixture[str]) -> None:
    found = counted("a", "a", "b", "tie", "skip")
    assert describe_rate(found, "policy") == "policy wins 62.5% [21.9%, 90.8%]"
    assert describe_rate(counted(), "policy") == "no vote yet"
    show_lines(describe(found, ("policy (step 4)", "reference")))
    out = capsys.readouterr().out
    assert "compared    policy (step 4) (a) against reference (b)\npairs       10\n" in out
    assert "me          2 a, 1 b, 1 tie, 1 skip\n" in out
    assert "win rate    a 62.5% [" in out
    assert "without ties, 3 votes" in out
    assert "reward      people agree with it 37.5% [" in out
    assert "sides" not in out


def test_a_rater_who_reads_one_side_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    show_lines(describe(counted(*["a"] * 10), ("x", "y")))  # the first side each time
    assert "sides       the first text won 100.0%" in capsys.readouterr().out
