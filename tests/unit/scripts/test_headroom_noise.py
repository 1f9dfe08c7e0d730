"""scripts/benchmark/headroom.py: the exact noise of the gradient, and what prompts=headroom leaves of it."""

from __future__ import annotations

from itertools import product
from math import prod
from statistics import fmean

import pytest
import torch

from tests.scripts import load_beside

headroom = load_beside("benchmark/headroom.py")


@pytest.mark.parametrize("samples", [2, 3])
def test_moments_are_those_of_every_group(samples: int) -> None:
    logits, returns = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    chances = logits.softmax(0)
    mean, square = torch.zeros(4, dtype=torch.float64), 0.0
    for group in map(list, product(range(4), repeat=samples)):
        own = returns[group]
        advantages = own - (own.sum() - own) / (samples - 1)
        gradient = (advantages.unsqueeze(1) * (torch.eye(4, dtype=torch.float64)[group] - chances)).mean(0)
        weight = prod(chances[group].tolist())
        mean += weight * gradient
        square += weight * float(gradient.square().sum())
    found = headroom.group_moments(logits.unsqueeze(0), returns.unsqueeze(0), samples)
    torch.testing.assert_close(found[0][0], mean)
    assert float(found[1]) == pytest.approx(square - float(mean.square().sum()))


def test_no_chances_have_less_noise_than_the_roots_of_the_variances() -> None:
    noise = headroom.Noise.at(headroom.Task.of(0), torch.zeros(8, 16, dtype=torch.float64))
    roots = (noise.variances.sqrt() + 1e-9).tolist()
    best = [(1 / 64, root / sum(roots)) for root in roots]
    assert noise.within(best) == pytest.approx(noise.least(), rel=1e-6)
    assert noise.least() < 0.5 * noise.within([(1 / 64, 1 / 64)] * 64)


def test_uniform_draws_have_no_noise_between_prompts_in_an_epoch() -> None:
    noise = headroom.Noise.at(headroom.Task.of(0), torch.zeros(8, 16, dtype=torch.float64))
    alike = [(1 / 64, 1 / 64)] * 64
    assert noise.between(alike, 64) < 1e-20
    one = float((noise.means - noise.means.mean(0)).square().sum(1).mean())  # of independent draws
    assert noise.between(alike, 1) == pytest.approx(one)
    assert 0 < noise.between(alike, 8) < one


def test_sixty_percent_of_the_completions_have_the_noise_of_all() -> None:
    """The figure of docs/data.md, where half of the groups have no variance."""
    found = [one for seed in range(3) for one in headroom.noise_shares(seed, 8, 0.2, 100, [40, 80])]
    assert fmean(one["within"] + one["between"] for one in found) < 0.6
    assert fmean(one["between, steps apart"] / one["between"] for one in found) > 3
