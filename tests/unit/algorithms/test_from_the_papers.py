"""The losses against plain loops written from the papers, on random rollouts of several groups.

Nothing of the package is used on this side but the numbers of the rollout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.grpo import Grpo
from rlhf_cli.algorithms.ppo import Ppo
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.types import Forward
from tests.unit.support import minibatch_of, rollout_of, scored_of

GROUP, LENGTHS, BETA, LIMIT = 3, [4, 1, 3, 2, 4, 2], 0.3, 5
ROWS = range(len(LENGTHS))


@dataclass(frozen=True)
class Numbers:
    """One rollout, and the policy a few updates later."""

    scores: list[float]
    old: Tensor
    reference: Tensor
    now: Tensor
    old_values: Tensor
    values: Tensor

    def penalised(self, i: int, t: int) -> float:
        """Reward of token t of completion i: minus beta times the log-ratio, the score at the last."""
        kl = float(self.old[i, t] - self.reference[i, t])
        return -BETA * kl + (self.scores[i] if t == LENGTHS[i] - 1 else 0.0)

    def whole(self, i: int) -> float:
        """Penalised return of completion i."""
        return sum(self.penalised(i, t) for t in range(LENGTHS[i]))

    def ratio(self, i: int, t: int) -> Tensor:
        return torch.exp(self.now[i, t] - self.old[i, t])


def numbers(seed: int) -> Numbers:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]

    def normal(scale: float) -> Tensor:
        return torch.randn(mask.shape, generator=generator, dtype=torch.float64) * scale * mask

    old = -normal(1.0).abs()
    return Numbers(
        scores=torch.randn(len(LENGTHS), generator=generator, dtype=torch.float64).tolist(),
        old=old,
        reference=old + normal(0.5),
        now=(old + normal(0.3)).requires_grad_(),
        old_values=normal(1.0),
        values=normal(1.0).requires_grad_(),
    )


def loss_of(algorithm: Algorithm, n: Numbers) -> Tensor:
    """The package's loss for the whole rollout."""
    mask = [[1] * length + [0] * (max(LENGTHS) - length) for length in LENGTHS]
    rollout = rollout_of(mask, samples=GROUP, logprobs=n.old)
    values = n.old_values if algorithm.needs_value else None
    scored = scored_of(rollout, n.scores, ref_logprobs=n.reference, values=values, beta=BETA)
    advantages = algorithm.advantages(scored, RunningMean())
    minibatch = minibatch_of(
        advantages.advantages,
        mask,
        aggregation=algorithm.aggregation,
        max_new_tokens=LIMIT,
        logprobs=n.old,
        values=values,
        returns=advantages.returns,
    )
    return algorithm.loss(minibatch, Forward(n.now, n.values if algorithm.needs_value else None)).loss


def assert_same(found: Tensor, expected: Tensor, n: Numbers) -> None:
    """Value and gradients."""
    assert_close(found, expected, rtol=0, atol=1e-9)
    wanted = [leaf for leaf in (n.now, n.values) if _reaches(expected, leaf)]
    for one, other in zip(torch.autograd.grad(found, wanted), torch.autograd.grad(expected, wanted), strict=True):
        assert float(other.abs().max()) > 1e-3
        assert_close(one, other, rtol=0, atol=1e-9)


def _reaches(loss: Tensor, leaf: Tensor) -> bool:
    return torch.autograd.grad(loss, leaf, retain_graph=True, allow_unused=True)[0] is not None


@pytest.mark.parametrize("seed", range(3))
def test_rloo(seed: int) -> None:
    """arXiv:2402.14740, the estimator of section 3.2: each completion against the mean of the k - 1 others."""
    n = numbers(seed)
    total: Any = 0.0
    for i in ROWS:
        others = [j for j in ROWS if j // GROUP == i // GROUP and j != i]
        advantage = n.whole(i) - sum(n.whole(j) for j in others) / len(others)
        total = total + advantage * sum(n.now[i, t] for t in range(LENGTHS[i]))
    assert_same(loss_of(Rloo(kind="rloo"), n), -total / len(LENGTHS), n)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("aggregation", ["sum", "constant", "token_mean", "sequence_mean"])
@pytest.mark.parametrize("scale_by_std", [True, False])
def test_grpo(seed: int, aggregation: str, scale_by_std: bool) -> None:
    """arXiv:2402.03300, equation 3, with the range and the means of arXiv:2503.14476 and 2503.20783."""
    n, low, high = numbers(seed), 0.1, 0.25
    terms: list[list[Tensor]] = []
    for i in ROWS:
        group = [n.whole(j) for j in ROWS if j // GROUP == i // GROUP]
        mean = sum(group) / GROUP
        spread = math.sqrt(sum((r - mean) ** 2 for r in group) / (GROUP - 1)) + 1e-4 if scale_by_std else 1.0
        a = (n.whole(i) - mean) / spread
        row = []
        for t in range(LENGTHS[i]):
            ratio = n.ratio(i, t)
            held = min(max(float(ratio.detach()), 1 - low), 1 + high) * a
            row.append(ratio * a if float(ratio.detach()) * a <= held else torch.tensor(held, dtype=torch.float64))
        terms.append(row)
    everything = sum(sum(row) for row in terms)
    expected: Any = {
        "sum": everything / len(LENGTHS),
        "constant": everything / (len(LENGTHS) * LIMIT),
        "token_mean": everything / sum(LENGTHS),
        "sequence_mean": sum(sum(row) / len(row) for row in terms) / len(LENGTHS),
    }[aggregation]
    algorithm = Grpo.model_validate(
        {
            "kind": "grpo",
            "scale_by_std": scale_by_std,
            "clip_range": low,
            "clip_range_high": high,
            "aggregation": aggregation,
            "epochs": 1,
            "minibatch_size": None,
        }
    )
    assert_same(loss_of(algorithm, n), -expected, n)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0)])
def test_ppo(seed: int, whiten: bool, gamma: float, gae_lambda: float) -> None:
    """arXiv:1707.06347, equations 7, 9 and 11, with the penalised reward of arXiv:1909.08593."""
    n, clip, value_clip, vf_coef = numbers(seed), 0.15, 0.3, 0.4
    advantages: dict[tuple[int, int], float] = {}
    for i in ROWS:
        for t in range(LENGTHS[i]):  # the sum of equation 11 written out, not the recursion
            total = 0.0
            for k in range(t, LENGTHS[i]):
                after = float(n.old_values[i, k + 1]) if k + 1 < LENGTHS[i] else 0.0
                delta = n.penalised(i, k) + gamma * after - float(n.old_values[i, k])
                total += (gamma * gae_lambda) ** (k - t) * delta
            advantages[i, t] = total
    returns = {(i, t): a + float(n.old_values[i, t]) for (i, t), a in advantages.items()}
    if whiten:
        mean = sum(advantages.values()) / len(advantages)
        spread = math.sqrt(sum((a - mean) ** 2 for a in advantages.values()) / len(advantages))
        advantages = {place: (a - mean) / (spread + 1e-4) for place, a in advantages.items()}
    policy: Any = 0.0
    value: Any = 0.0
    for (i, t), a in advantages.items():
        ratio = n.ratio(i, t)
        policy = policy + torch.minimum(ratio * a, torch.clamp(ratio, 1 - clip, 1 + clip) * a)
        v, old = n.values[i, t], n.old_values[i, t]
        held = torch.clamp(v, old - value_clip, old + value_clip)
        value = value + torch.maximum((v - returns[i, t]) ** 2, (held - returns[i, t]) ** 2) / 2
    expected = (-policy + vf_coef * value) / len(advantages)
    algorithm = Ppo.model_validate(
        {
            "kind": "ppo",
            "clip_range": clip,
            "vf_coef": vf_coef,
            "value_clip_range": value_clip,
            "gamma": gamma,
            "gae_lambda": gae_lambda,
            "whiten": whiten,
            "aggregation": "token_mean",
            "epochs": 1,
            "minibatch_size": None,
        }
    )
    assert_same(loss_of(algorithm, n), expected, n)
