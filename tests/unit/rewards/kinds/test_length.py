"""How near a length comes to a target."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.rewards.kinds.length import count_sentences
from rlhf_cli.types import PromptRow
from tests.unit.rewards.support import limit, made


def score(text: str, **settings: object) -> float:
    (found,) = made("length", **settings).score([PromptRow("p", {}, "f:1")], [text])
    assert isinstance(found, float)
    return found


@pytest.mark.parametrize(
    ("unit", "text", "expected"),
    [  # target 4, width 2: 1 / (1 + ((n - 4) / 2)²)
        ("words", "one two three four", 1.0),
        ("words", "one  two\nthree\tfour five six", 0.5),  # 6: 1 / (1 + 1)
        ("words", "one two", 0.5),
        ("words", "", 0.2),  # 0: 1 / (1 + 4)
        ("characters", "abcd", 1.0),
        ("characters", "é\n", 0.5),
        ("characters", "a b c d e ", 0.1),  # 10: 1 / (1 + 9)
        ("sentences", "One. Two! Three? Four.", 1.0),
        ("sentences", "One. Two", 0.5),
    ],
)
def test_the_score_of_a_length(unit: str, text: str, expected: float) -> None:
    assert score(text, unit=unit, target=4, width=2.0) == pytest.approx(expected)


def test_brevity() -> None:
    """Of the values in the YAML: 1 / (1 + (n / 20)²)."""
    assert [score("word " * n) for n in (0, 20, 60)] == pytest.approx([1.0, 0.5, 0.1])


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (" \n", 0),
        ("...", 0),
        ("One", 1),
        ("One.", 1),
        ("One. Two", 2),
        ("Pi is 3.14 or so.", 1),
        ("Wait... what?! No!!!", 3),
        ("Hello ! Bye .", 2),
        ("Hello. . . .", 1),
        ('He said "Go." She went (at last.) *So.*', 3),
        ("One。 Two！", 2),
        ("a.b.c", 1),
        ("- first\n- second", 1),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert count_sentences(text) == count


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.floats(1e-3, 1e6))
def test_nearer_is_better_and_the_range_is_kept(target: int, one: int, other: int, width: float) -> None:
    scores = [score("x" * n, unit="characters", target=target, width=width) for n in (one, other)]
    assert all(0 < value <= 1 for value in scores)
    if abs(one - target) < abs(other - target):
        assert scores[0] >= scores[1]
        assert scores[0] > scores[1] or width > 1e4  # 1 + (n / width)² may round to the same
    assert (scores[0] == 1.0) == (one == target) or width > 1e4


def test_a_length_beyond_all_bounds_is_a_number_too() -> None:
    assert score("x" * 1000, unit="characters", target=0, width=1e-300) == 0.0
    assert made("length").highest == 1.0


def test_what_is_refused() -> None:
    assert limit("length", target=-1) == "greater_than_equal"
    assert limit("length", width=0.0) == "greater_than"
    assert limit("length", width=math.inf) == "finite_number"  # every length would score 1
    assert limit("length", unit="tokens") == "literal_error"
