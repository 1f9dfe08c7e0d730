"""feedback.annotator: the law of its votes, and that they go on where they stopped."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.feedback.annotator import Annotator, annotate
from rlhf_cli.feedback.pairs import read_pairs, with_ids
from rlhf_cli.feedback.preference import Row
from rlhf_cli.feedback.votes import VoteFile
from tests.unit.feedback.samples import file_of


def test_the_law() -> None:
    for_a, for_b, tie = Annotator(noise=2.0, ties=0.2).chances((1.0, 1.0))
    assert (for_a, for_b, tie) == pytest.approx((0.4, 0.4, 0.2))
    for_a, for_b, tie = Annotator(noise=2.0, ties=0.2).chances((3.0, 1.0))
    assert for_a / for_b == pytest.approx(math.e)  # Bradley and Terry: the odds are exp(d)
    assert tie / math.sqrt(for_a * for_b) == pytest.approx(0.5)  # Davidson: nu = 2 ties / (1 - ties)
    assert Annotator(noise=1e-9, ties=0.2).chances((1.0, 0.0)) == pytest.approx((1.0, 0.0, 0.0))
    assert Annotator(noise=0.5, ties=0.0).chances((0.0, 1.0))[2] == 0.0


def test_a_vote_is_the_place_of_a_uniform_number() -> None:
    annotator = Annotator(noise=1.0, ties=0.5)  # 0.25, 0.25, 0.5
    assert [annotator.vote((0.0, 0.0), u) for u in (0.0, 0.24, 0.26, 0.49, 0.51, 0.99)] == [
        "a", "a", "b", "b", "tie", "tie",
    ]  # fmt: skip


def test_votes_follow_the_law_and_go_on_after_a_stop(tmp_path: Path) -> None:
    rows = [Row(f"prompt {n}", f"a {n}", f"b {n}", (1.0, 0.0)) for n in range(200)]
    file = file_of(tmp_path, rows)
    pairs, votes, annotator = read_pairs(file), VoteFile(file), Annotator(noise=1.0, ties=0.0)
    annotate(pairs, votes, annotator, seed=3)
    valid = votes.read().of("simulated").valid
    assert len(valid) == 200
    won = sum(vote.vote == "a" for vote in valid.values())
    assert abs(won / 200 - 1 / (1 + math.exp(-1))) < 3 * math.sqrt(0.2 / 200)
    whole = votes.file.read_bytes().splitlines(keepends=True)
    votes.file.write_bytes(b"".join(whole[:120]))
    annotate(pairs, votes, annotator, seed=3)
    again = votes.read().of("simulated").valid
    assert {pair: vote.vote for pair, vote in again.items()} == {pair: vote.vote for pair, vote in valid.items()}


def test_it_cannot_vote_without_rewards(tmp_path: Path) -> None:
    pairs = with_ids([Row("p", "x", "y", None)])
    with pytest.raises(UserError, match=r"a pair without rewards .*; fix: bring the file of pairs back"):
        annotate(pairs, VoteFile(tmp_path / "pairs.jsonl"), Annotator(noise=1.0, ties=0.0), seed=0)
