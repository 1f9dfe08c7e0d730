"""The columns that a reward of ours reads: fields, lists, and rows that are refused before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.rewards import columns
from rlhf_cli.rewards.columns import check_rows, column_value, has_column
from rlhf_cli.rewards.kinds.weighted import Weighted
from rlhf_cli.types import PromptRow
from tests.unit.rewards.support import made

VERL = {"reward_model": {"ground_truth": "72", "style": "rule"}, "answer": ["72"], "a.b": 1, "several": ["1", "2"]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reward_model.ground_truth", "72"),
        ("reward_model.style", "rule"),
        ("answer", "72"),
        ("a.b", 1),
        ("several", ["1", "2"]),
        ("reward_model.truth", None),
        ("answer.text", None),
        ("nothing.at.all", None),
    ],
)
def test_a_dot_leads_into_an_object_and_a_list_of_one_is_its_value(name: str, value: Any) -> None:
    assert column_value(VERL, name) == value


def test_the_column_that_holds_a_field_is_there() -> None:
    assert has_column(VERL, "reward_model.ground_truth")
    assert has_column(VERL, "a.b")
    assert not has_column(VERL, "solution")


def rows(*values: Any, name: str = "answer") -> list[PromptRow]:
    return [PromptRow("Q", {name: value}, f"file:{line}") for line, value in enumerate(values, start=1)]


def refusal(source: Any, *values: Any, name: str = "answer") -> str:
    with pytest.raises(UserError) as caught:
        check_rows(source, rows(*values, name=name))
    assert caught.value.exit_code == 3
    return caught.value.line()


@pytest.mark.parametrize("kind", ["exact_match", "math"])
def test_lists_and_objects_are_refused(kind: str) -> None:
    assert refusal(made(kind), "72", ["1", "2"]) == (
        "answer is a list of 2 values (file:2); fix: give each row one value"
    )
    masked = made(kind, on_error="mask", column="reward_model")
    assert refusal(masked, {"ground_truth": "72", "style": "rule"}, name="reward_model") == (
        "reward_model is an object with ground_truth, style (file:1); "
        "fix: name a field of it: reward.column=reward_model.ground_truth"
    )
    check_rows(made(kind), rows("72", ["72"], 72, 7.5))


def test_a_rubric_takes_no_field_of_an_object() -> None:
    judge = made("judge", url="http://localhost:1", model="m", rubric="{answer} {completion}")
    assert refusal(judge, {"text": "72"}).endswith("answer is an object with text (file:1); fix: give a text")


def test_a_row_without_a_right_answer_is_refused_unless_it_is_masked() -> None:
    source = made("exact_match", extract_expected="#### (.*)")
    line = refusal(source, "#### 7", "7")
    assert line.startswith(
        "answer '7' has no match for extract_expected, so that reward=exact_match has no score (file:2)"
    )
    assert refusal(source, "#### 7", None).startswith("answer is missing, so that")
    check_rows(made("exact_match", extract_expected="#### (.*)", on_error="mask"), rows("7", None))


@pytest.mark.case(59)
def test_a_right_answer_that_is_no_mathematics_is_refused() -> None:
    pytest.importorskip("math_verify")
    line = refusal(made("math"), "5x-7", "72", "two words here")
    assert line.startswith(
        "answer 'two words here' is neither one number nor one expression, so that reward=math has no"
    )
    assert line.endswith("(file:3); fix: mend the row, or leave such prompts out: reward.on_error=mask")


def test_not_more_formulas_are_tried_than_take_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("math_verify")
    monkeypatch.setattr(columns, "THOROUGH_S", 0.0)
    odd = r"\frac{1}{"
    check_rows(made("math"), rows(odd))
    assert refusal(made("math"), "words are found quickly").endswith("leave such prompts out: reward.on_error=mask")
    monkeypatch.setattr(columns, "THOROUGH_S", 9.0)
    assert refusal(made("math"), odd)


def test_parts_and_columns_that_no_row_has() -> None:
    parts = {"right": made("exact_match"), "tone": made("sentiment")}
    weighted = Weighted(kind="weighted", parts=parts, weights={"right": 1.0, "tone": 1.0})
    assert "so that reward.parts.right=exact_match has no score" in refusal(weighted, "7", None)
    check_rows(weighted, rows("7", name="solution"))  # said where the columns are known: it is no fault of a row


def test_a_judge_reads_texts() -> None:
    judge = made("judge", url="http://localhost:1", model="m", rubric="{completion} {facts}")
    assert "facts is a list of 2 values" in refusal(judge, ["a", "b"], name="facts")
