"""The oracle: probabilities, sets and gradient by hand and by differences; it shares no code with training."""

from __future__ import annotations

import ast
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.verify import exact
from rlhf_cli.verify.exact import Tables, Target, chances_of_differences, gradient, group_weights, objectives, spread

PLAIN = Target(0.3, 1.0, None, 1.0, 0.0, None, 0.0, 0.0, False)


def tables(seed: int = 3) -> Tables:
    generator = torch.Generator().manual_seed(seed)
    reference, policy, scores = (
        torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((2, 4, 3), (2, 4, 3), (2, 7))
    )
    return Tables(reference, policy, scores, 2)


def test_it_imports_nothing_of_the_training_code() -> None:
    tree = ast.parse(Path(exact.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [module for module in modules if module and module.startswith("rlhf_cli")]


def test_the_texts_are_all_that_there_are() -> None:
    assert tables().texts == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2,)]


def test_a_score_that_all_have_is_the_objective_of_the_reference() -> None:
    """Probabilities sum to 1, whatever is truncated, and the KL of the reference to itself is 0."""
    same = replace(tables(), scores=torch.full((2, 7), 2.5, dtype=torch.float64))
    for target in (PLAIN, replace(PLAIN, temperature=0.6), replace(PLAIN, ended_only=True)):
        assert_close(objectives(same, same.reference, target), torch.full((2,), 2.5, dtype=torch.float64))
    kept = objectives(same, same.reference, replace(PLAIN, top_k=2, beta=0.0))
    assert_close(kept, torch.full((2,), 2.5, dtype=torch.float64))


def test_the_states_that_a_text_of_three_tokens_visits() -> None:
    # 0, then 3 * 0 + 1 + 1 = 2, then 3 * 2 + 1 + 0 = 7; entry v of state s is 3 s + v: 1 + 6 + 23
    numbers = torch.arange(13 * 3, dtype=torch.float64).view(1, 13, 3)
    assert exact._of_texts(numbers, [(1, 0, 2)], 3).tolist() == [[30.0]]


def chances_to_end(one: Tables) -> torch.Tensor:
    """The policy's probability of a text that ends, for each prompt."""
    whole = torch.softmax(one.policy, -1)
    return whole[:, 0, 2] + whole[:, 0, 0] * whole[:, 1, 2] + whole[:, 0, 1] * whole[:, 2, 2]


def test_a_temperature_of_two_is_that_of_half_the_logits() -> None:
    one = tables()
    cooler = replace(one, reference=one.reference / 2, policy=one.policy / 2)
    warm = replace(PLAIN, temperature=2.0)
    assert_close(objectives(one, one.policy, warm), objectives(cooler, cooler.policy, PLAIN))
    assert spread(one, warm) == pytest.approx(spread(cooler, PLAIN))


def test_the_weights_of_steps_that_learn_by_hand() -> None:
    one, ends = tables(), chances_to_end(tables())
    two, three = 3 * ends**2 * (1 - ends), ends**3  # of three completions, so many end
    found = group_weights(one, replace(PLAIN, ended_only=True), 3, 2, float)
    assert_close(found, (2 * two + 3 * three) / (two + three).sum())
    assert_close(group_weights(one, PLAIN, 3, 2, float), torch.full((2,), 3 / 2, dtype=torch.float64))


def test_a_weighted_gradient_is_that_of_the_prompts_by_their_weights() -> None:
    one, even = tables(), gradient(tables(), tables().policy, PLAIN)  # each prompt by a half
    found = gradient(one, one.policy, PLAIN, torch.tensor([0.25, 2.0], dtype=torch.float64))
    assert_close(found, even * torch.tensor([0.5, 4.0], dtype=torch.float64).view(2, 1, 1))


def test_the_chance_of_different_scores_by_hand() -> None:
    scores = torch.tensor([[1, 1, 2, 2, 2, 3, 1], [4] * 7], dtype=torch.float64)
    even = replace(tables(), policy=torch.zeros(2, 4, 3, dtype=torch.float64), scores=scores)
    # six texts with a ninth each and one with a third: scores 1, 2, 3 with 5/9, 3/9, 1/9
    expected = torch.tensor([1 - (25 + 9 + 1) / 81, 0.0], dtype=torch.float64)
    assert_close(chances_of_differences(even, PLAIN, 2), expected, rtol=0, atol=1e-12)


def test_shaping_by_hand() -> None:
    one = replace(tables(), scores=torch.full((2, 7), 2.5, dtype=torch.float64))
    short, ends = torch.softmax(one.policy, -1)[:, 0, 2], chances_to_end(one)  # the only text of one token
    shaped = replace(PLAIN, beta=0.0, clip=(0.0, 2.0), length_penalty=0.1, penalty=0.5)
    assert_close(objectives(one, one.policy, shaped), 2.0 - 0.1 * (2 - short) - 0.5 * (1 - ends))
    assert_close(
        objectives(one, one.policy, replace(PLAIN, beta=0.0, centre=0.5, unit=4.0)), torch.full_like(ends, 0.5)
    )


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, [0, 1, 2]),
        ({"top_k": 2}, [0, 2]),
        ({"top_p": 0.5}, [2]),
        ({"top_p": 0.51}, [0, 2]),
        ({"min_p": 0.59}, [0, 2]),
        ({"min_p": 0.7}, [2]),
        ({"top_k": 2, "top_p": 0.65}, [0, 2]),  # of the two, 5/8 and 3/8
        ({"top_k": 2, "top_p": 0.6}, [2]),
    ],
)
def test_the_sets_that_truncation_keeps(changes: dict[str, float], kept: list[int]) -> None:
    logits = torch.tensor([0.3, 0.2, 0.5], dtype=torch.float64).log()
    found = exact._truncated(logits, replace(PLAIN, **changes))
    assert torch.isfinite(found).nonzero().flatten().tolist() == kept


def test_what_is_not_truncated_is_whole_however_unlikely() -> None:
    # 1 + exp(-50) is 1 in float64: the first token has all of the mass
    logits = torch.tensor([0.0, -50.0], dtype=torch.float64)
    assert torch.isfinite(exact._truncated(logits, PLAIN)).tolist() == [True, True]
    assert torch.isfinite(exact._truncated(logits, replace(PLAIN, top_p=0.999))).tolist() == [True, False]


def test_equals_of_the_most_likely_token_are_within_min_p() -> None:
    even = torch.zeros(2, 3, dtype=torch.float64)
    assert torch.isfinite(exact._truncated(even, replace(PLAIN, min_p=1.0))).all()


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.7, "top_k": 2}, {"ended_only": True, "length_penalty": 0.1}])
def test_the_gradient_by_differences(changes: dict[str, float]) -> None:
    one, target = tables(), replace(PLAIN, **changes)
    found = gradient(one, one.policy, target)
    for place in ((0, 0, 1), (1, 2, 2), (1, 0, 0)):
        step = torch.zeros_like(one.policy)
        step[place] = 1e-5
        up, down = (float(objectives(one, one.policy + sign * step, target).mean()) for sign in (1, -1))
        assert float(found[place]) == pytest.approx((up - down) / 2e-5, abs=1e-8)
    assert not found[:, 3].any()  # behind the end token


def test_the_spread_of_the_scores_by_hand() -> None:
    one = tables()
    even = replace(one, policy=torch.zeros_like(one.policy))
    chances = torch.tensor([1 / 9] * 6 + [1 / 3], dtype=torch.float64) / 2
    mean = float((chances * one.scores).sum())
    assert spread(even, PLAIN) == pytest.approx((mean, float((chances * (one.scores - mean).square()).sum())))
    ended = torch.tensor([0, 0, 1, 0, 0, 1, 3], dtype=torch.float64)
    assert spread(even, replace(PLAIN, ended_only=True))[0] == pytest.approx(float((ended * one.scores).sum()) / 10)


def test_at_the_closed_form_optimum_the_gradient_is_zero() -> None:
    one = tables()
    best = torch.softmax(torch.stack([log_chance(one, text) for text in one.texts], 1) + one.scores / 0.3, 1)
    first = torch.stack([best[:, 0:3].sum(1), best[:, 3:6].sum(1), best[:, 6]], 1)
    policy = torch.stack([first, best[:, 0:3], best[:, 3:6], torch.ones(2, 3, dtype=torch.float64)], 1).log()
    assert float(gradient(one, policy, PLAIN).abs().max()) < 1e-12
    assert math.isclose(float(gradient(one, one.policy, PLAIN).abs().max()), 0.0, abs_tol=0.01) is False


def log_chance(one: Tables, text: tuple[int, ...]) -> torch.Tensor:
    """log of the reference's probability of the text, for each prompt."""
    rows = torch.log_softmax(one.reference, -1)
    return rows[:, 0, text[0]] + (rows[:, 1 + text[0], text[1]] if len(text) == 2 else 0.0)
