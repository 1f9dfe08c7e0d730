"""Words that a completion should have, and words that it should not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.types import PromptRow
from tests.unit.rewards.support import limit, made, refusal


def score(text: str, **settings: object) -> float:
    (found,) = made("keyword", **settings).score([PromptRow("p", {}, "f:1")], [text])
    assert isinstance(found, float)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # of four words the share that occurs, less the share of two to avoid
        ("", 0.0),
        ("Thank you, my dear cat and C++ too", 1.0),
        ("thank you", 0.25),
        ("thank you thank you thank you", 0.25),
        ("a dear cat", 0.5),
        ("a dear cat and a dog", 0.0),
        ("dog, snake", -1.0),
        ("Thank you, my dear cat, C++, dog, snake", 0.0),
    ],
)
def test_shares(text: str, expected: float) -> None:
    words = ["thank you", "dear", "cat", "c++"]
    assert score(text, words=words, avoid=["dog", "snake"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "case_sensitive", "whole_words", "expected"),
    [  # the words are art and Übung
        ("art Übung", True, True, 1.0),
        ("ART übung", True, True, 0.0),
        ("ART übung", False, True, 1.0),
        ("ART übung", False, False, 1.0),
        ("party Übungen", True, True, 0.0),
        ("party Übungen", True, False, 1.0),
        ("PARTY", False, False, 0.5),
        ("art_ 2art", True, True, 0.0),
        ("(art) -Übung-", True, True, 1.0),
        ("part, art", True, True, 0.5),
    ],
)
def test_capitals_and_whole_words(text: str, case_sensitive: bool, whole_words: bool, expected: float) -> None:
    found = score(text, words=["art", "Übung"], case_sensitive=case_sensitive, whole_words=whole_words)
    assert found == pytest.approx(expected)


def test_capitals_of_every_language() -> None:
    assert score("STRASSE", words=["Straße"]) == 1.0


def test_a_word_is_no_pattern() -> None:
    assert score("axb", words=["a.b"]) == 0.0
    assert score("see a.b!", words=["a.b"]) == 1.0
    assert score("C++", words=["C++"]) == 1.0


def test_a_word_named_twice_counts_once() -> None:
    assert score("a", words=["a", "A", "b"]) == 0.5
    assert score("a", words=["a", "A", "b"], case_sensitive=True) == pytest.approx(1 / 3)


@given(st.text(max_size=30), st.lists(st.sampled_from("abc"), min_size=1), st.lists(st.sampled_from("de")))
def test_the_range_is_kept(text: str, words: list[str], avoid: list[str]) -> None:
    found = score(text, words=words, avoid=avoid, whole_words=False, case_sensitive=True)
    wanted, unwanted = set(words), set(avoid)
    expected = len(wanted & set(text)) / len(wanted) - len(unwanted & set(text)) / max(len(unwanted), 1)
    assert found == pytest.approx(expected)
    assert -1 <= found <= made("keyword").highest == 1


def test_what_is_refused() -> None:
    assert limit("keyword", words=[]) == "too_short"
    assert refusal("keyword", words=["a", " "]).endswith("must not have an empty word: every text contains it")
    assert refusal("keyword", avoid=[""]).endswith("must not have an empty word: every text contains it")
