"""feedback.tally."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rlhf_cli.feedback.pairs import with_ids
from rlhf_cli.feedback.preference import Row
from rlhf_cli.feedback.saying import describe
from rlhf_cli.feedback.tally import tally
from rlhf_cli.feedback.votes import Votes
from tests.unit.feedback.samples import pairs_of, vote

PAIRS = pairs_of(6)


def test_votes_are_counted_by_rater() -> None:
    words = ["a", "b", "tie", "both_bad", "skip", "a"]
    lines = [vote(pair, what, chance=0.5) for pair, what in zip(PAIRS, words, strict=True)]
    found = tally(Votes((*lines, vote(PAIRS[0], "undo"), vote("f" * 16, "a")), ()), PAIRS)
    assert found.raters == {"me": {"a": 1, "b": 1, "tie": 1, "both_bad": 1, "skip": 1}}
    assert (found.votes, found.pairs, found.identical, found.foreign) == (4, 6, 0, 1)
    assert found.added == 0
    assert found.win_rate.mean == pytest.approx(2 / 4)
    assert found.decided is not None
    assert (found.decided.mean, found.decided.count) == (0.5, 2)
    assert found.left is not None
    assert found.left.mean == 0.5
    assert found.kappa is None


def test_sides_are_counted_by_their_name_and_by_where_they_stood() -> None:
    """Of five, a won four; the left one won as well, but for the second, the third and the fourth."""
    votes = zip(PAIRS, "aaaab", "abbbb", strict=False)
    lines = [vote(pair, "a" if what == "a" else "b", left="a" if left == "a" else "b") for pair, what, left in votes]
    found = tally(Votes(tuple(lines), ()), PAIRS)
    assert found.decided is not None
    assert found.left is not None
    assert (found.decided.mean, found.left.mean) == (4 / 5, 2 / 5)


def test_chosen_pairs_have_no_plain_share() -> None:
    found = tally(Votes((vote(PAIRS[0], "a", chance=0.3), vote(PAIRS[1], "b", chance=0.3)), ()), PAIRS)
    assert found.decided is None


def test_kappa_of_two_and_of_three() -> None:
    two = [
        vote(pair, what, rater=r)
        for r, words in (("x", "aabb"), ("y", "aaba"))
        for pair, what in zip(PAIRS, words, strict=False)
    ]
    found = tally(Votes((*two, vote(PAIRS[4], "a", rater="x")), ()), PAIRS)
    assert found.kappa is not None
    assert (found.kappa.kind, found.kappa.raters, found.kappa.pairs) == ("cohen", 2, 4)
    # observed 3/4; expected 1/2 * 3/4 + 1/2 * 1/4 = 1/2
    assert found.kappa.value == pytest.approx(0.5)
    three = [vote(pair, what, rater="z") for pair, what in zip(PAIRS, ["tie", "both_bad"], strict=False)]
    found = tally(Votes((*two, *three), ()), PAIRS)
    assert found.kappa is not None
    assert (found.kappa.kind, found.kappa.raters, found.kappa.pairs) == ("fleiss", 3, 2)
    assert dict(describe(found, ("a", "b")))["raters"].startswith("Fleiss' kappa ")
    # each pair has a, a, neither: observed 1/3; expected (2/3)^2 + (1/3)^2 = 5/9
    assert found.kappa.value == pytest.approx((1 / 3 - 5 / 9) / (1 - 5 / 9))


def test_one_who_only_skips_is_no_second_rater() -> None:
    assert tally(Votes((vote(PAIRS[0], "a"), vote(PAIRS[0], "skip", rater="ben")), ()), PAIRS).kappa is None


def test_raters_without_a_pair_in_common() -> None:
    assert tally(Votes((vote(PAIRS[0], "a"), vote(PAIRS[1], "a", rater="ben")), ()), PAIRS).kappa is None


def test_identical_pairs_are_counted_without_votes() -> None:
    pairs = with_ids([Row("p", "x", "x", None), Row("p", "x", "y", None)])
    found = tally(Votes((), ()), pairs)
    assert (found.pairs, found.identical, found.votes) == (2, 1, 0)
    assert json.dumps(found.row())
    assert found.row()["win_rate"]["mean"] is None


def test_pairs_that_were_added_after_the_first_vote_are_said() -> None:
    pairs = pairs_of(5)
    votes = [replace(vote(pairs[0], "a"), of=3), replace(vote(pairs[1], "a"), of=5), vote(pairs[2], "a")]
    found = tally(Votes(tuple(votes), ()), pairs)
    assert found.added == 2
    assert dict(describe(found, ("a", "b")))["pairs"] == "5, 2 of them added after the first vote"
    assert tally(Votes((votes[1],), ()), pairs).added == 0
    assert dict(describe(tally(Votes((votes[1],), ()), pairs), ("a", "b")))["pairs"] == "5"
