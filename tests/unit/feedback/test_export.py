"""feedback.export: votes become preference rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf_cli.data.conversion import to_prompt_row
from rlhf_cli.data.preference import Lesson, read_preference
from rlhf_cli.data.source import RawRow
from rlhf_cli.errors import UserError
from rlhf_cli.feedback.export import Preferences, preferences, write_preferences
from rlhf_cli.feedback.pairs import with_ids
from rlhf_cli.feedback.preference import Row, read_row
from rlhf_cli.feedback.votes import Ballot, Vote, Votes
from rlhf_cli.types import Message
from tests.unit.feedback.samples import pairs_of, vote
from tests.unit.support import source_of


def rows_of(*lines: Vote) -> Preferences:
    return preferences([(Votes(lines, ()), pairs_of(4))])


def test_the_better_completion_is_chosen_and_ties_are_half() -> None:
    first, second, third, _ = pairs_of(4)
    found = rows_of(vote(first, "a"), vote(second, "b"), vote(third, "tie"))
    assert found.rows == (
        {"prompt": "prompt 0", "chosen": "first 0", "rejected": "second 0", "share": 1.0},
        {"prompt": "prompt 1", "chosen": "second 1", "rejected": "first 1", "share": 1.0},
        {"prompt": "prompt 2", "chosen": "first 2", "rejected": "second 2", "share": 0.5},
    )
    assert (found.ties, dict(found.left_out)) == (1, {})


@pytest.mark.parametrize(
    ("ballots", "chosen", "share"),
    [
        (("a", "b", "b"), "second 0", 2 / 3),
        (("a", "b"), "first 0", 0.5),
        (("a", "tie"), "first 0", 0.75),
        (("b", "skip"), "second 0", 1.0),
        (("b", "both_bad"), "second 0", 1.0),
    ],
)
def test_raters_weigh_alike(ballots: tuple[Ballot, ...], chosen: str, share: float) -> None:
    pair = pairs_of(1)[0]
    (row,) = rows_of(*(vote(pair, ballot, rater=f"r{n}") for n, ballot in enumerate(ballots))).rows
    assert (row["chosen"], row["share"]) == (chosen, pytest.approx(share))


def test_a_vote_that_was_taken_back_or_replaced_does_not_count() -> None:
    first, second, *_ = pairs_of(4)
    found = rows_of(vote(first, "a"), vote(first, "undo"), vote(second, "a"), vote(second, "b"), vote("other", "a"))
    assert [row["chosen"] for row in found.rows] == ["second 1"]


def test_what_is_bad_or_empty_is_left_out_and_counted() -> None:
    pairs = with_ids([Row("p", "", "text", None), Row("p", "same", "same ", None), Row("p", "x", "y", None)])
    votes = Votes((vote(pairs[0], "b"), vote(pairs[1], "a"), vote(pairs[2], "both_bad")), ())
    found = preferences([(votes, pairs)])
    assert (found.rows, dict(found.left_out)) == ((), {"with an empty text": 1, "both bad": 1})


def test_a_chat_stays_one_and_training_reads_it() -> None:
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    row = read_row({"prompt": turns, "a": "x", "b": "y"}, "f:1")
    assert row.prompt == "system: Be kind.\n\nuser: Hi"
    assert read_row(row.as_dict(), "f:1") == row
    pairs = with_ids([row, Row("Hi", "x", "y", None)])
    found = preferences([(Votes((vote(pairs[0], "b"), vote(pairs[1], "b")), ()), pairs)])
    chat, text = (to_prompt_row(RawRow(row, "f:1"), source_of()) for row in found.rows)
    assert chat.prompt == (Message("system", "Be kind."), Message("user", "Hi"))
    assert text.prompt == "Hi"
    assert read_preference(chat) == read_preference(text) == Lesson(("y", "x"), 1.0, 0.0)


def test_a_file_is_new_and_has_rows(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    with pytest.raises(UserError, match=r"no vote for a completion, nor a tie: 1 both bad"):
        write_preferences(rows_of(vote(pairs_of(1)[0], "both_bad")), file)
    with pytest.raises(UserError, match=r"no vote for a completion, nor a tie \(--export\); fix: vote first"):
        write_preferences(rows_of(), file)
    (pair,) = with_ids([Row("é", "x", "y", None)])
    found = preferences([(Votes((vote(pair, "a"),), ()), [pair])])
    write_preferences(found, file)
    assert '"prompt": "é"' in file.read_text(encoding="utf-8")
    assert [json.loads(line) for line in file.read_text().splitlines()] == list(found.rows)
    with pytest.raises(UserError, match="there is such a file"):
        write_preferences(found, file)
    with pytest.raises(UserError, match="cannot be written: No such file"):
        write_preferences(found, tmp_path / "none" / "out.jsonl")
