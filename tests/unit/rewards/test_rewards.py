"""The rewards of our own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pydantic import TypeAdapter

from rlhf_cli.rewards.kinds import Part
from rlhf_cli.rewards.kinds.characters import Characters
from rlhf_cli.rewards.kinds.sentiment import Sentiment
from rlhf_cli.types import PromptRow


def scores(reward: Characters | Sentiment, texts: Sequence[str]) -> list[float]:
    return reward.score([PromptRow("p", {}, "f:1")] * len(texts), texts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0.0), ("abc", 1.0), ("ABC", 0.0), ("a b ", 0.5), ("xa", 0.5), ("ééa", 1 / 3), ("\n\x00c", 1 / 3)],
)
def test_characters_counts_the_share_of_its_set(text: str, expected: float) -> None:
    assert scores(Characters(kind="characters", characters="abc"), [text]) == [pytest.approx(expected)]


def test_a_character_named_twice_counts_once() -> None:
    assert scores(Characters(kind="characters", characters="aab"), ["ax"]) == [0.5]


def test_sentiment_has_the_sign_of_what_it_reads() -> None:
    good, bad, plain, empty = scores(
        Sentiment(kind="sentiment"),
        ["I love this wonderful day!", "This is terrible, I hate it.", "The door is made of wood.", ""],
    )
    assert good > 0.5
    assert bad < -0.5
    assert plain == 0.0
    assert empty == 0.0


def test_sentiment_stays_in_its_range_however_much_it_is_flattered() -> None:
    (score,) = scores(Sentiment(kind="sentiment"), ["wonderful " * 500 + "!" * 500])
    assert 0.99 < score <= 1.0


def test_sentiment_reads_anything() -> None:
    texts = ["\x00\x1b[31m", "\ufffd" * 30, "汉字", " \n\t", "🙂", "!!!", "a" * 5000]
    assert all(-1 <= score <= 1 for score in scores(Sentiment(kind="sentiment"), texts))


@pytest.mark.parametrize(
    "reward",
    [Sentiment(kind="sentiment"), Characters(kind="characters", characters="aeiou")],
    ids=["sentiment", "characters"],
)
def test_a_score_does_not_depend_on_the_texts_beside_it(reward: Characters | Sentiment) -> None:
    texts = ["I love it", "I hate it", "", "a table"]
    assert scores(reward, texts) == [scores(reward, [text])[0] for text in texts]
    assert scores(reward, []) == []


def test_kind_chooses_the_reward() -> None:
    assert isinstance(TypeAdapter(Part).validate_python({"kind": "sentiment"}), Sentiment)
