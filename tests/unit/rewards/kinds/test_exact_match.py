"""Whether an answer is the one in the data, as a text."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.rewards.support import limit, made, refusal, score_function

BOXED = r"\\boxed\{(.*?)\}"
GSM8K = r"####\s*(.*)"


def scores(texts: list[Any], answers: list[Any], **settings: object) -> list[float | None]:
    reward = made("exact_match", **settings)
    return score_function(reward)(completions=texts, **{name: answers for name in reward.needs})


@pytest.mark.parametrize(
    ("ignore_case", "strip", "text", "answer", "expected"),
    [
        (False, False, "Paris", "Paris", 1.0),
        (False, False, "Paris ", "Paris", 0.0),
        (False, False, "Paris.", "Paris", 0.0),
        (False, False, "paris", "Paris", 0.0),
        (True, False, "PARIS", "Paris", 1.0),
        (True, False, "Straße", "STRASSE", 1.0),
        (True, False, "Paris.", "Paris", 0.0),
        (False, True, " \nParis!?\n", "Paris", 1.0),
        (False, True, "Paris .", "Paris", 1.0),
        (False, True, "Paris", " Paris.", 1.0),
        (False, True, "paris.", "Paris", 0.0),
        (False, True, ".5", "5", 0.0),
        (True, True, "It is Paris", "Paris", 0.0),
        (True, True, "", "Paris", 0.0),
        (True, True, "72", 72, 1.0),
        (True, True, "72.0", 72, 1.0),  # a number in the data is a number, a text is a text
        (True, True, "72.0", "72", 0.0),
        (True, True, "72", 72.0, 1.0),  # as a table with a missing value keeps it
        (True, True, "72.0", 72.0, 1.0),
        (True, True, "72.01", 72, 0.0),
        (True, True, "1e+300", 1e300, 1.0),
        (True, True, "1" + 22 * "0", 1e22, 1.0),
        (False, False, "1E22", 10**22, 1.0),
        (False, False, "+1.0e+22", 10**22, 1.0),
        (False, False, " 1e22", 10**22, 0.0),  # without `strip`
        (True, True, "10^22.", 10**22, 1.0),
        (True, True, "10**22", 10**22, 1.0),
        (True, True, "-10^2", -100, 1.0),
        (True, True, "1e23", 10**22, 0.0),
        (True, True, "1e22", "1" + 22 * "0", 0.0),
        (True, True, "1e999999999", 10**22, 0.0),
        (True, True, "1e9999999999999999999999", 10**22, 0.0),
        (True, True, "1.", True, 0.0),
        (True, True, "0.5", 0.5, 1.0),
        (True, True, ".50", 0.5, 1.0),
        (True, True, "1,000", "1000", 0.0),
        (True, True, "$72", "72", 0.0),
        (True, True, "-5", "-5", 1.0),
        (True, True, "5", "-5", 0.0),
        (True, True, "9" * 10_000, "9" * 10_000, 1.0),
        (True, True, "9" * 10_000, "9" * 9_999 + "8", 0.0),
        (True, True, "anything", None, None),
        (True, True, "72", ["72"], None),
        (True, True, "72", {"value": "72"}, None),
    ],
)
def test_whole_completions(ignore_case: bool, strip: bool, text: str, answer: Any, expected: float | None) -> None:
    assert scores([text], [answer], ignore_case=ignore_case, strip=strip) == [expected]


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        (r"so \boxed{72}", "a sum\n#### 72", 1.0),
        (r"\boxed{70}, no: \boxed{72}", "#### 72", 1.0),  # the last counts
        (r"\boxed{72}, no: \boxed{70}", "#### 72", 0.0),
        (r"\boxed{72}", "#### 70\n#### 72", 1.0),  # here too
        (r"\boxed{72.}", "#### 72", 1.0),
        (r"\boxed{a{b}c}", "#### a{b", 1.0),  # the pattern's own end
        ("72", "#### 72", 0.0),
        ("", "#### 72", 0.0),
        (r"\boxed{72}", "72", None),
        (r"\boxed{72}", "", None),
        (r"\boxed{72}", 72, None),
        (r"\boxed{" * 500, "#### 72", 0.0),
    ],
)
def test_answers_that_patterns_find(text: str, answer: Any, expected: float | None) -> None:
    assert scores([text], [answer], extract=BOXED, extract_expected=GSM8K) == [expected]


def test_a_group_that_took_no_part_is_no_answer() -> None:
    assert scores(["x", "xy"], ["y", "y"], extract="x(y)?") == [0.0, 1.0]
    assert scores(["y", "y"], ["x", "xy"], extract_expected="x(y)?") == [None, 1.0]


def test_the_column_may_have_any_name_and_others_may_come_with_it() -> None:
    reward = made("exact_match", column="the target")
    assert reward.needs == ("the target",)
    columns = {"the target": ["a", "b"], "answer": ["b", "a"]}
    chats = [[{"role": "assistant", "content": text}] for text in ("a", "a")]
    assert score_function(reward)(completions=chats, **columns) == [1.0, 0.0]


@pytest.mark.usefixtures("no_collection")
def test_a_text_on_which_the_pattern_never_ends_costs_no_other_its_score() -> None:
    texts = ["aab", "a" * 60 + "c", "b"]
    assert scores(texts, ["aa"] * 3, extract="((?:a|a)+)b", seconds=0.05) == [1.0, None, 0.0]


def test_what_is_refused() -> None:
    assert made("exact_match").highest == 1.0
    for field in ("extract", "extract_expected"):
        said = refusal("exact_match", **{field: "a"})
        assert said.endswith("must have one group, the answer in (parentheses), and has 0")
        assert refusal("exact_match", **{field: "(a)(b)"}).endswith("and has 2")
        assert refusal("exact_match", **{field: "(a"}).endswith("unterminated subpattern at position 0")
    assert limit("exact_match", column="") == "string_too_short"
