"""demo.problem: J, its gradient and its optimum against sums written out."""

from __future__ import annotations

import math

import pytest
import torch

from rlhf_cli.demo.problem import Problem, random_problem
from rlhf_cli.demo.soup import BETA, RESPONSES, policy_of, toy
from rlhf_cli.engine.tabular import TabularEngine

TWO_STEPS = random_problem(prompts=2, steps=2, tokens=3, beta=0.3, seed=1)


def moved(problem: Problem) -> TabularEngine:
    """A policy that has left the reference."""
    engine = problem.engine()
    with torch.no_grad():
        engine.logits += torch.randn(
            engine.logits.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64
        )
    return engine


def by_hand(problem: Problem, logits: torch.Tensor) -> float:
    """J of two-token texts over three tokens, text by text: state 1 + a follows a, and 4 + 3 a + b ends (a, b)."""
    total = 0.0
    for p in range(2):
        policy, reference = torch.log_softmax(logits[p], -1), torch.log_softmax(problem.reference[p], -1)
        for a in range(3):
            for b in range(3):
                log_pi = float(policy[0, a] + policy[1 + a, b])
                log_ref = float(reference[0, a] + reference[1 + a, b])
                score = float(problem.scores[p, 4 + 3 * a + b])
                total += math.exp(log_pi) * (score - problem.beta * (log_pi - log_ref)) / 2
    return total


def test_the_objective_is_the_sum_over_every_text() -> None:
    engine = moved(TWO_STEPS)
    assert float(TWO_STEPS.objective(engine).detach()) == pytest.approx(by_hand(TWO_STEPS, engine.logits.detach()))


def test_its_gradient_is_that_of_small_differences() -> None:
    engine = moved(TWO_STEPS)
    TWO_STEPS.objective(engine).backward()
    assert engine.logits.grad is not None
    logits, step = engine.logits.detach(), 1e-5
    for place in [(0, 0, 0), (0, 2, 1), (1, 0, 2), (1, 3, 0)]:
        up, down = logits.clone(), logits.clone()
        up[place] += step
        down[place] -= step
        slope = (by_hand(TWO_STEPS, up) - by_hand(TWO_STEPS, down)) / (2 * step)
        assert float(engine.logits.grad[place]) == pytest.approx(slope, abs=1e-8)


def test_the_optimum_is_a_distribution_and_reaches_the_best() -> None:
    problem = toy(BETA)
    assert float(problem.optimum().exp().sum()) == pytest.approx(1)
    assert float(problem.objective(policy_of(problem.optimum())).detach()) == pytest.approx(problem.best())
    # beta log sum_y ref(y) exp(r(y) / beta)
    z = sum(one.probability * math.exp(one.score / BETA) for one in RESPONSES)
    assert problem.best() == pytest.approx(BETA * math.log(z))


def test_percent_is_0_at_the_reference_and_100_at_the_optimum() -> None:
    problem = toy(BETA)
    assert problem.percent(problem.engine()) == pytest.approx(0, abs=1e-9)
    assert problem.percent(policy_of(problem.optimum())) == pytest.approx(100)


def test_no_policy_is_better_than_the_best() -> None:
    assert TWO_STEPS.percent(moved(TWO_STEPS)) < 100


def test_the_reference_of_the_toy_is_a_distribution() -> None:
    assert sum(response.probability for response in RESPONSES) == pytest.approx(1)
