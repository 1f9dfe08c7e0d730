"""feedback.session: what a rater is asked, and that a reload asks the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.feedback.choice import Choose
from rlhf_cli.feedback.pairs import with_ids
from rlhf_cli.feedback.preference import Row
from rlhf_cli.feedback.session import Question, Session
from rlhf_cli.feedback.votes import VoteFile
from tests.unit.feedback.samples import pairs_of


def session(folder: Path, rater: str = "me", choose: Choose = "random", count: int = 6, seed: int = 0) -> Session:
    return Session(pairs_of(count), VoteFile(folder / "pairs.jsonl"), rater, choose, seed)


def asked(one: Session) -> Question:
    question = one.question()
    assert question is not None
    return question


@pytest.mark.parametrize("choose", ["random", "informative"])
def test_every_pair_is_asked_once_and_a_reload_goes_on(choose: str, tmp_path: Path) -> None:
    seen = []
    for number in range(1, 7):
        question = asked(session(tmp_path, choose=choose))
        assert asked(session(tmp_path, choose=choose)) == question
        assert (question.number, question.of) == (number, 6)
        session(tmp_path, choose=choose).answer(question, "a")
        seen.append(question.pair.id)
    assert session(tmp_path).question() is None
    assert sorted(seen) == sorted(pair.id for pair in pairs_of(6))


def test_chances_of_random_draws(tmp_path: Path) -> None:
    one = session(tmp_path, count=3)
    chances = []
    for _ in range(3):
        question = asked(one)
        one.answer(question, "skip")
        chances.append(question.chance)
    assert chances == pytest.approx([1 / 3, 1 / 2, 1.0])


def test_sides_are_shuffled_by_seed_and_by_rater(tmp_path: Path) -> None:
    def sides(rater: str, seed: int) -> str:
        one, shown = session(tmp_path / rater / str(seed), rater, count=40, seed=seed), {}
        (tmp_path / rater / str(seed)).mkdir(parents=True, exist_ok=True)
        for _ in range(40):
            question = asked(one)
            shown[question.pair.id] = question.left
            assert {question.left, question.right} == {"a", "b"}
            one.answer(question, "tie")
        return "".join(shown[pair.id] for pair in pairs_of(40))

    found = [sides("anna", 0), sides("anna", 1), sides("ben", 0)]
    assert len(set(found)) == 3
    assert all(10 < one.count("a") < 30 for one in found)


def test_undo_asks_again_with_the_first_chance(tmp_path: Path) -> None:
    one = session(tmp_path)
    first = asked(one)
    one.answer(first, "a", "a note")
    second = asked(one)
    assert one.undo()
    again = asked(one)
    assert again == first
    one.answer(again, "b")
    assert asked(one) == second
    found = VoteFile(tmp_path / "pairs.jsonl").read()
    assert [(line.vote, line.note) for line in found.lines] == [("a", "a note"), ("undo", ""), ("b", "")]
    assert found.of("me").valid[first.pair.id].vote == "b"


def test_undo_goes_back_vote_by_vote(tmp_path: Path) -> None:
    one = session(tmp_path)
    assert not one.undo()
    first = asked(one)
    one.answer(first, "a")
    one.answer(asked(one), "b")
    assert one.undo()
    assert one.undo()
    assert not one.undo()
    assert asked(one) == first


def test_raters_do_not_see_each_other(tmp_path: Path) -> None:
    session(tmp_path, "anna").answer(asked(session(tmp_path, "anna")), "a")
    assert asked(session(tmp_path, "anna")).number == 2
    assert asked(session(tmp_path, "ben")).number == 1
    assert not session(tmp_path, "ben").undo()


def test_identical_texts_are_not_asked(tmp_path: Path) -> None:
    pairs = with_ids([Row("p", "x", "x", None), Row("p", "x", "y", None)])
    one = Session(pairs, VoteFile(tmp_path / "pairs.jsonl"), "me", "random", 0)
    assert (asked(one).of, asked(one).pair) == (1, pairs[1])


@pytest.mark.parametrize("rater", ["", " ", "a\nb", "x" * 65])
def test_a_rater_has_a_name(rater: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a rater's name"):
        session(tmp_path, rater)


def test_a_vote_says_out_of_how_many_pairs_it_was_drawn(tmp_path: Path) -> None:
    for count in (3, 5):
        one = session(tmp_path, count=count)
        one.answer(asked(one), "a")
    assert [line.of for line in VoteFile(tmp_path / "pairs.jsonl").read().lines] == [3, 5]
