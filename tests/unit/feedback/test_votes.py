"""feedback.votes: a line a vote, and none is ever lost."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.feedback.votes import VoteFile
from tests.unit.feedback.samples import standing, vote


def store(folder: Path) -> VoteFile:
    return VoteFile(folder / "pairs.jsonl")


def test_votes_are_read_as_they_were_written(tmp_path: Path) -> None:
    lines = (vote("1", "a"), replace(vote("2", "skip"), note="who\u2028 knows\n"), vote("1", "undo"))
    for line in lines:
        store(tmp_path).append(line)
    read = store(tmp_path).read()
    assert (read.lines, read.odd) == (lines, ())
    file = tmp_path / "pairs.votes.jsonl"
    assert file.read_bytes().count(b"\n") == 3
    assert file.stat().st_mode & 0o111 == 0  # nobody runs it


def test_a_note_stays_readable_in_the_file(tmp_path: Path) -> None:
    store(tmp_path).append(vote("1", "a", rater="Zoë"))
    assert "Zoë" in (tmp_path / "pairs.votes.jsonl").read_text(encoding="utf-8")


def test_without_a_file_there_are_no_votes(tmp_path: Path) -> None:
    assert store(tmp_path).read().lines == ()


def test_a_vote_is_on_disk_before_it_is_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, synced = tmp_path / "pairs.votes.jsonl", []

    def fsync(handle: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{handle}"), file.read_bytes().count(b"\n")))

    monkeypatch.setattr(os, "fsync", fsync)
    store(tmp_path).append(vote("1", "a"))
    store(tmp_path).append(vote("2", "a"))
    assert synced == [(str(file), 1), (str(tmp_path), 1), (str(file), 2)]


def test_half_a_line_stays_and_the_next_vote_has_its_own(tmp_path: Path) -> None:
    votes = store(tmp_path)
    votes.append(vote("1", "a"))
    with votes.file.open("ab") as handle:
        handle.write(b'{"time": "2026')
    assert votes.read().odd == ("pairs.votes.jsonl:2: half a line, as a kill leaves it",)
    votes.append(vote("2", "b"))
    read = votes.read()
    assert [line.pair for line in read.lines] == ["1", "2"]
    assert read.odd == ("pairs.votes.jsonl:2: no vote",)


def test_a_whole_line_without_its_end_counts(tmp_path: Path) -> None:
    votes = store(tmp_path)
    votes.append(vote("1", "a"))
    votes.file.write_bytes(votes.file.read_bytes().rstrip(b"\n"))
    votes.append(vote("2", "b"))
    assert [line.pair for line in votes.read().lines] == ["1", "2"]
    assert votes.read().odd == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [('"a", "left"', '"c", "left"'), ('"chance": 0.5', '"chance": 0'), ('"left": "a"', '"left": "x"'), ("{", "["),
     ('"rater"', '"ratre"'), ('"pair": "1"', '"pair": 1'), ('"chance": 0.5', '"chance": NaN'),
     ('"chance": 0.5', '"chance": 1e-300')],
)  # fmt: skip
def test_a_line_edited_by_hand_is_named_and_changes_no_other(old: str, new: str, tmp_path: Path) -> None:
    votes = store(tmp_path)
    votes.append(vote("1", "a"))
    edited = votes.file.read_text().replace(old, new)
    assert edited != votes.file.read_text()
    votes.file.write_text(edited)
    votes.append(vote("2", "a"))
    read = votes.read()
    assert [line.pair for line in read.lines] == ["2"]
    assert read.odd == ("pairs.votes.jsonl:1: no vote",)


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:7]))
    store(tmp_path).append(vote("1", "a"))
    assert store(tmp_path).read().lines == (vote("1", "a"),)


def test_two_who_write_at_once_disturb_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:9]))  # the other may come in between

    def votes_of(rater: str) -> None:
        for number in range(20):
            store(tmp_path).append(vote(str(number), "a", rater=rater))

    threads = [threading.Thread(target=votes_of, args=(name,)) for name in ("anna", "ben")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = store(tmp_path).read()
    assert read.odd == ()
    for rater in ("anna", "ben"):
        assert [line.pair for line in read.lines if line.rater == rater] == [str(number) for number in range(20)]


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: os.mkfifo(path), lambda path: path.symlink_to("mine.txt")])
def test_what_is_no_file_of_votes_is_refused(make: object, tmp_path: Path) -> None:
    make(tmp_path / "pairs.votes.jsonl")  # type: ignore[operator]
    with pytest.raises(UserError, match="no file of votes"):
        store(tmp_path)


def test_the_last_vote_on_a_pair_stands_and_undo_takes_it_back() -> None:
    first, second = vote("1", "a", chance=0.5), vote("2", "b", chance=0.25)
    found = standing(first, second, vote("1", "tie", chance=0.1), vote("2", "undo"))
    assert {pair: one.vote for pair, one in found.valid.items()} == {"1": "tie"}
    assert found.drawn == {"1": first, "2": second}
    assert found.taken_back == ["2"]
    assert standing(first, second, vote("1", "b")).history == ("2", "1")
    again = standing(first, vote("1", "undo"), second, vote("1", "b"))
    assert list(again.valid) == ["1", "2"]
    assert again.taken_back == []


@pytest.mark.parametrize(("what", "score"), [("a", 1.0), ("b", 0.0), ("tie", 0.5), ("both_bad", 0.5), ("skip", None)])
def test_scores(what: str, score: float | None) -> None:
    assert vote("1", what).score == score
