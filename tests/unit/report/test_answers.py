"""report.answers: held-out completions by the change of their reward."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.report.answers import SHOWN, answers_by_change
from tests.unit.evaluation.samples import AFTER, BEFORE


def test_the_greatest_rise_comes_first() -> None:
    first = replace(BEFORE, prompts=[4, 7], reward=[[1.0, 2.0], [0.0, 0.0]], texts=[["a", "b"], ["c", "d"]])
    last = replace(AFTER, prompts=[7, 4], reward=[[1.0, 2.0], [0.5, 0.5]], texts=[["e", "f"], ["g", "h"]])
    rise, fall = answers_by_change(first, last, ["no"] * 5)
    assert (rise.prompt, rise.change) == ("held-out prompt 8", 1.5)
    assert (rise.before.completions, rise.after.completions) == ([(0.0, "c"), (0.0, "d")], [(1.0, "e"), (2.0, "f")])
    assert (fall.prompt, fall.change) == ("no", -1.0)
    assert (fall.before.reward, fall.after.reward, fall.after.more) == (1.5, 0.5, 0)


def test_a_prompt_without_a_score_in_one_of_both_is_left_out() -> None:
    (found,) = answers_by_change(replace(BEFORE, prompts=[0, 3]), replace(AFTER, prompts=[3, 5]), [])
    assert found.prompt == "held-out prompt 4"


@pytest.mark.parametrize(("first", "last"), [(None, AFTER), (BEFORE, None)])
def test_there_is_nothing_to_show_without_both(first: Evaluation | None, last: Evaluation | None) -> None:
    assert answers_by_change(first, last, []) == []


def test_of_many_completions_some_are_shown() -> None:
    many = replace(AFTER, prompts=[0], reward=[[0.0] * 20], texts=[["x"] * 20])
    (found,) = answers_by_change(many, many, ["p"])
    assert (len(found.after.completions), found.after.more) == (SHOWN, 20 - SHOWN)
