"""What an evaluation found, by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from pydantic import TypeAdapter

from rlhf_cli.errors import EXIT_REWARD, UserError
from rlhf_cli.evaluation.diversity import distinct
from rlhf_cli.evaluation.evaluation import Completions, Evaluation, compare, estimate_progress
from rlhf_cli.evaluation.optimum import Draw, Optimum, PromptDraws, optimum
from tests.unit.evaluation.samples import AFTER, BEFORE, evaluation


def test_the_metrics() -> None:
    # prompt means: reward 5, 1.5; KL 2, .5; objective 5 - 1 = 4, 1.5 - .25 = 1.25
    assert AFTER.metrics() == {
        "eval/objective": pytest.approx(2.625),
        "eval/objective_se": pytest.approx(2.75 / 2),  # of two values half their difference
        "eval/reward/mean": pytest.approx(3.25),
        "eval/reward/se": pytest.approx(3.5 / 2),
        "eval/reward/failures": 3,
        "eval/kl/seq": pytest.approx(1.25),
        "eval/kl/seq_se": pytest.approx(1.5 / 2),
        "eval/completion/length": pytest.approx(10.0),
        "eval/completion/truncated": pytest.approx(0.75),
        "eval/completion/distinct_2": pytest.approx(1 / 3),  # (a, a) three times
    }


def test_the_objective_of_each_prompt() -> None:
    assert BEFORE.objective(0.5) == [2.0, 0.0]
    assert AFTER.objective(0.5) == [4.0, 1.25]
    assert AFTER.objective(0.0) == [5.0, 1.5]


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
    noisy = evaluation([[0.0], [10.0], [-20.0]])
    better = evaluation([[1.0], [11.0], [-19.0]], step=1)
    found = compare(noisy, better)
    assert (found.change["reward"].low, found.change["reward"].high) == (1.0, 1.0)
    assert found.before["reward"].half_width > 30


def test_the_comparison_is_of_the_prompts_that_both_have() -> None:
    before = dataclasses.replace(evaluation([[1.0], [2.0], [4.0], [50.0]]), prompts=[0, 2, 3, 7])
    after = dataclasses.replace(evaluation([[30.0], [3.0], [9.0]], step=1), prompts=[1, 2, 3])
    found = compare(before, after)
    # prompt 2: 2 -> 3, prompt 3: 4 -> 9
    assert (found.before["reward"].mean, found.after["reward"].mean) == (3.0, 6.0)
    assert (found.change["reward"].mean, found.change["reward"].count) == (3.0, 2)
    assert after.of({2, 3}).reward == [[3.0], [9.0]]
    assert after.of({2, 3}).prompts == [2, 3]


@pytest.mark.parametrize(("numbers", "common"), [([5, 6], "0 prompts"), ([1, 6], "1 prompt")])
def test_a_comparison_needs_two_prompts(numbers: list[int], common: str) -> None:
    with pytest.raises(UserError) as caught:
        compare(dataclasses.replace(BEFORE, prompts=numbers), AFTER)
    assert caught.value.what == f"the first and the last evaluation share {common} with all completions scored"
    assert caught.value.exit_code == EXIT_REWARD


def test_the_objectives_of_a_comparison_have_the_later_beta() -> None:
    # before: reward 1, 0 and KL 2, 4; at beta .25 J is .5 and -1, whatever beta was then
    before = dataclasses.replace(evaluation([[1.0], [0.0]], beta=10.0), kl=[[2.0], [4.0]])
    found = compare(before, evaluation([[1.0], [2.0]], step=1, beta=0.25))
    assert found.before["objective"].mean == pytest.approx(-0.25)
    assert found.change["objective"].mean == pytest.approx(1.75)


@pytest.mark.parametrize("found", [BEFORE, AFTER], ids=["without reference", "with it"])
def test_a_row_of_the_log_is_read_back_as_it_was(found: Evaluation) -> None:
    assert TypeAdapter(Evaluation).validate_json(json.dumps(found.row())) == found


def test_a_percentage_of_the_optimum_is_a_metric_where_there_is_one() -> None:
    assert "eval/optimum" not in AFTER.metrics()
    known = dataclasses.replace(AFTER, optimum=Optimum(62.5, 55.0, 71.0, "", 1.5, 30.0))
    assert known.metrics() == AFTER.metrics() | {"eval/optimum": 62.5}


def test_the_optimum_is_estimated_prompt_by_prompt_from_both_samplers() -> None:
    reference, policy = AFTER.reference, Completions(AFTER.reward, AFTER.logprob, AFTER.ref_logprob)
    assert reference is not None
    prompts = [
        PromptDraws(
            [Draw(1.0, -1.25, -1.0), Draw(3.0, -2.0, -2.0)], [Draw(4.0, -1.5, -1.0), Draw(6.0, -2.5, -2.0)], 2.0
        ),
        PromptDraws(
            [Draw(0.0, -3.0, -3.0), Draw(0.0, -4.0, -4.0)], [Draw(1.0, -3.5, -3.0), Draw(2.0, -4.5, -4.0)], 0.5
        ),
    ]
    found = estimate_progress(policy, reference, AFTER.kl, 0.5, 10.0)
    assert found == optimum(prompts, 0.5, 10.0)
    # rewards 5, 1.5, KL 2, .5, of the reference 2, 0: gains 2 and 1.25; the bound is 1.625 of 10 - 1
    assert found.gain == pytest.approx(1.625)
    assert found.bound == pytest.approx(100 * 1.625 / 9)


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
def test_distinct_pairs_of_words(texts: list[str], expected: float) -> None:
    assert distinct(texts, 2) == pytest.approx(expected)


def test_a_single_prompt_has_no_standard_error() -> None:
    assert evaluation([[1.0]]).metrics()["eval/reward/se"] == math.inf


@pytest.mark.parametrize(
    ("changes", "sound"),
    [
        ({}, True),
        ({"beta": 0.99e100}, True),
        ({"beta": 1e100}, False),
        ({"kl": [[0.0, 0.0], [0.0, -1e100]]}, False),
        ({"prompts": [1, 1]}, False),
        ({"prompts": [1]}, False),
        ({"texts": [["a", "b"], ["c"]]}, False),
        ({"length": [[4, 6]]}, False),
    ],
    ids=str,
)
def test_damage_is_noticed(changes: dict[str, Any], sound: bool) -> None:
    assert dataclasses.replace(BEFORE, **changes).is_sound == sound


def test_an_evaluation_without_completions_is_unsound() -> None:
    empty: dict[str, Any] = {name: [] for name in ("prompts", "reward", "kl", "length", "truncated", "texts")}
    assert not dataclasses.replace(BEFORE, **empty, logprob=[], ref_logprob=[]).is_sound
    assert not dataclasses.replace(BEFORE, **{name: [[], []] for name in empty if name != "prompts"}).is_sound
