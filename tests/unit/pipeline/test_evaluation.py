"""What an evaluation found, by hand."""

from __future__ import annotations

import json
import math

import pytest

from rlhf_cli.pipeline.evaluation import Evaluation, compare, distinct_2

BEFORE = Evaluation(
    step=0,
    beta=0.5,
    reward=[[1.0, 3.0], [0.0, 0.0]],
    kl=[[0.0, 0.0], [0.0, 0.0]],
    length=[[4, 6], [2, 8]],
    truncated=[[True, False], [False, False]],
    texts=[["a b a b", "x"], ["a b", "c d"]],
)
AFTER = Evaluation(
    step=4,
    beta=0.5,
    reward=[[4.0, 6.0], [1.0, 2.0]],
    kl=[[1.0, 3.0], [0.5, 0.5]],
    length=[[10, 10], [9, 11]],
    truncated=[[True, True], [True, False]],
    texts=[["a a a", ""], ["A a", "a"]],
)


def test_the_metrics() -> None:
    # prompt means: reward 5, 1.5; KL 2, .5; objective 5 - 1 = 4, 1.5 - .25 = 1.25
    assert AFTER.metrics() == {
        "eval/objective": pytest.approx(2.625),
        "eval/objective_se": pytest.approx(2.75 / 2),  # of two values half their difference
        "eval/reward/mean": pytest.approx(3.25),
        "eval/reward/se": pytest.approx(3.5 / 2),
        "eval/kl/seq": pytest.approx(1.25),
        "eval/kl/seq_se": pytest.approx(1.5 / 2),
        "eval/completion/length": pytest.approx(10.0),
        "eval/completion/truncated": pytest.approx(0.75),
        "eval/completion/distinct_2": pytest.approx(1 / 3),  # (a, a) three times
    }


def test_the_objective_of_each_prompt() -> None:
    assert BEFORE.objective() == [2.0, 0.0]
    assert AFTER.objective() == [4.0, 1.25]


def test_the_comparison_pairs_the_prompts() -> None:
    found = compare(BEFORE, AFTER)
    assert (found.before["reward"].mean, found.after["reward"].mean) == (1.0, 3.25)
    # changes 3 and 1.5: mean 2.25, standard error .75, t(1) = 12.7062
    assert found.change["reward"].mean == pytest.approx(2.25)
    assert found.change["reward"].half_width == pytest.approx(0.75 * 12.7062, rel=1e-4)
    # objective: 2 and 1.25; KL: 2 and .5; length: 5 and 5
    assert found.change["objective"].mean == pytest.approx(1.625)
    assert found.change["kl"].mean == pytest.approx(1.25)
    assert (found.change["length"].mean, found.change["length"].half_width) == (5.0, 0.0)
    assert found.change["length"].count == 2
    assert found.distinct_2 == (pytest.approx(3 / 5), pytest.approx(1 / 3))


def test_noise_that_both_share_cancels() -> None:
    noisy = Evaluation(0, 0.5, [[0.0], [10.0], [-20.0]], [[0.0]] * 3, [[1]] * 3, [[False]] * 3, [["x"]] * 3)
    better = Evaluation(1, 0.5, [[1.0], [11.0], [-19.0]], [[0.0]] * 3, [[1]] * 3, [[False]] * 3, [["x"]] * 3)
    found = compare(noisy, better)
    assert (found.change["reward"].low, found.change["reward"].high) == (1.0, 1.0)
    assert found.before["reward"].half_width > 30


def test_evaluations_of_other_prompts_cannot_be_paired() -> None:
    fewer = Evaluation(0, 0.5, [[1.0]], [[0.0]], [[1]], [[False]], [["x"]])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        compare(fewer, AFTER)


def test_a_row_of_the_log_is_read_back_as_it_was() -> None:
    assert Evaluation.read(json.loads(json.dumps(AFTER.row()))) == AFTER


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], 0.0),
        ([""], 0.0),
        (["one", "two"], 0.0),  # no pair
        (["a b c"], 1.0),
        (["a b a b"], 2 / 3),  # ab ba ab
        (["a b", "a b"], 1 / 2),  # the same pair twice, in two texts
        (["a b", "B  A", "A\nB"], 2 / 3),  # case and spacing do not matter
    ],
)
def test_distinct_2(texts: list[str], expected: float) -> None:
    assert distinct_2(texts) == pytest.approx(expected)


def test_a_single_prompt_has_no_standard_error() -> None:
    alone = Evaluation(0, 0.0, [[1.0]], [[0.0]], [[1]], [[False]], [["x"]])
    assert alone.metrics()["eval/reward/se"] == math.inf
