"""report.sides_page: the table, the win rate and the texts, which nobody may run."""

from __future__ import annotations

from dataclasses import replace

from rlhf_cli.evaluation.sides import Answered, compare_sides
from rlhf_cli.report.sides_page import html, rows_of
from rlhf_cli.types import PromptRow
from tests.pages import parse, said
from tests.unit.report.samples import HOSTILE


def answered(reward: float, text: str) -> Answered:
    return Answered([reward] * 9, {}, [0.5] * 9, [3] * 9, [False] * 9, [text] * 9, [text] * 9)


A = {0: answered(1.0, "a zero"), 1: answered(2.5, f"a one {HOSTILE}"), 3: answered(9.0, "alone")}
B = {0: answered(0.5, "b zero"), 1: answered(0.5, "b one"), 2: answered(9.0, "alone")}
PROMPTS = [PromptRow(f"prompt {n} {HOSTILE}", {}, "") for n in range(4)]


def test_the_page() -> None:
    sides = compare_sides(A, B, 4, 0.1)
    page = html(sides, [A, B], PROMPTS, (f"run {HOSTILE}", "reference"))
    words = said(parse(page))
    assert "<svg onload" not in page
    assert words.index("prompt 1") < words.index("prompt 0")  # the greatest gain first
    assert "+2.000" in words
    assert "and 1 more" in words
    assert "alone" not in words
    assert "2 prompts left out" in words
    assert "has a higher reward than one of reference in 100.0% [34.2%, 100.0%] of pairs" in words


def test_without_a_reward_the_page_has_none_and_keeps_the_order() -> None:
    a, b = ({number: replace(side[number], rewards=()) for number in (0, 1)} for side in (A, B))
    words = said(parse(html(compare_sides(a, b, 2, 0.1), [a, b], PROMPTS, ("policy", "reference"))))
    assert "reward" not in words
    assert "gains most" not in words
    assert words.index("prompt 0") < words.index("prompt 1")
    assert "b one" in words


def test_rows_have_the_digits_of_their_measure() -> None:
    rows = {row[0]: row[1:] for row in rows_of(compare_sides(A, B, 4, 0.1))}
    assert rows["length, tokens"] == ("3.0 ± 0.0", "3.0 ± 0.0", "+0.0 ± 0.0")
    assert rows["KL, nats"][0] == "0.500 ± 0.000"
    assert rows["reward"][2].startswith("+1.250 ± ")
