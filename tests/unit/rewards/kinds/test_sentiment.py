"""How positive a completion reads."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from rlhf_cli.rewards.kinds import SingleSource
from rlhf_cli.rewards.kinds.sentiment import Sentiment
from rlhf_cli.types import PromptRow


def scores(reward: Sentiment, texts: Sequence[str]) -> list[float]:
    return reward.score([PromptRow("p", {}, "f:1")] * len(texts), texts)


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


def test_kind_chooses_the_reward() -> None:
    assert isinstance(TypeAdapter(SingleSource).validate_python({"kind": "sentiment"}), Sentiment)


def test_a_score_does_not_depend_on_the_texts_beside_it() -> None:
    reward = Sentiment(kind="sentiment")
    texts = ["I love it", "I hate it", "", "a table"]
    assert scores(reward, texts) == [scores(reward, [text])[0] for text in texts]
    assert scores(reward, []) == []
