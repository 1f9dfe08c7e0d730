"""Completions that do not count: part of no baseline, no scale and no loss, whichever algorithm learns."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.config.options import options
from tests.unit.support import rollout_of, scored_of

COUNTS = torch.tensor([True, False, True, True, True, False])
SCORES = torch.tensor([1.0, 5.0, 2.0, -1.0, 4.0, 0.0])


@cache
def algorithm(name: str, *overrides: str) -> Algorithm:
    return compose_config(["config=tiny", f"algorithm={name}", *overrides]).algorithm


ALGORITHMS = [pytest.param(name, (), id=name) for name in options("algorithm")] + [
    pytest.param("reinforce", ("algorithm.baseline=mean",), id="reinforce, mean")
]


@pytest.mark.parametrize(("name", "overrides"), ALGORITHMS)
def test_completions_that_do_not_count_do_not_change_the_others(name: str, overrides: tuple[str, ...]) -> None:
    rollout = rollout_of([[1, 1], [1, 0]] * 3, samples=3)
    values = torch.full((6, 2), 0.25)

    def advantages(scores: torch.Tensor) -> torch.Tensor:
        scored = scored_of(rollout, scores, values=values, learnable=COUNTS)
        return algorithm(name, *overrides).advantages(scored, RunningMean()).advantages[COUNTS]

    other = torch.where(COUNTS, SCORES, torch.tensor(-77.0))
    assert_close(advantages(other), advantages(SCORES), rtol=0, atol=0)
    assert float(advantages(SCORES).abs().max()) > 0.1


@pytest.mark.parametrize(("name", "overrides"), ALGORITHMS)
def test_completions_that_do_not_count_are_as_if_never_sampled(name: str, overrides: tuple[str, ...]) -> None:
    """Groups of three of which two count each: those of two groups of two."""
    four = [row for row in range(6) if COUNTS[row]]
    masks = [[1, 1], [1, 0]] * 3
    values = torch.linspace(-1, 1, 12).view(6, 2)
    with_cut = scored_of(rollout_of(masks, samples=3), SCORES, values=values, learnable=COUNTS)
    without = scored_of(rollout_of([masks[row] for row in four], samples=2), SCORES[four], values=values[four])
    learner = algorithm(name, *overrides)
    assert_close(
        learner.advantages(with_cut, RunningMean()).advantages[COUNTS],
        learner.advantages(without, RunningMean()).advantages,
    )
