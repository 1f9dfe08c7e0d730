"""The texts in the columns of a row."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_cli.data.preference import Lesson
from rlhf_cli.errors import UserError
from rlhf_cli.supervised.lessons import check_lessons, read_lesson
from rlhf_cli.supervised.objectives.dpo import Dpo
from rlhf_cli.supervised.objectives.sft import Sft
from tests.unit.supervised.support import DPO, SFT, row_of

sft, dpo = Sft.model_validate(SFT), Dpo.model_validate(DPO)
TURNS = [{"role": "user", "content": "Say a."}, {"role": "assistant", "content": "abc"}]


@pytest.mark.parametrize("columns", [{"completion": "abc"}, {"completion": TURNS[1:]}, {"messages": TURNS}])
def test_a_completion_is_a_text_or_the_assistants_last_turn(columns: dict[str, Any]) -> None:
    assert read_lesson(row_of(**columns), sft) == Lesson(("abc",), 1.0, 0.0)


def test_a_preference_brings_its_votes_and_its_margin() -> None:
    row = row_of(chosen="abc", rejected=[{"role": "assistant", "content": "zz"}], share=0.25, margin=1.5)
    assert read_lesson(row, dpo) == Lesson(("abc", "zz"), 0.25, 1.5)


def test_the_objective_names_the_columns() -> None:
    other = Dpo.model_validate(DPO | {"chosen": "good", "rejected": "bad"})
    assert read_lesson(row_of(good="a", bad="b"), other).texts == ("a", "b")


@pytest.mark.parametrize(
    ("objective", "columns", "what"),
    [
        (sft, {"answer": "x"}, "no column 'completion'"),
        (sft, {"completion": ""}, "completion is empty"),
        (dpo, {"chosen": "same", "rejected": "same"}, "chosen and rejected are the same"),
        (dpo, {"chosen": "a"}, "no column 'rejected'"),
    ],
)
def test_a_row_that_is_no_lesson_is_named(objective: Sft | Dpo, columns: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=what) as caught:
        check_lessons([row_of(), row_of(2, **columns)], objective)
    assert (caught.value.where, caught.value.exit_code) == ("rows.jsonl:2", 3)
