"""Claims about LoRA: how its scale, its rank and the learning rate go together."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

import torch
from claims_problem import Claim, Found, percent, size
from torch import Tensor


def lora_scale() -> Found:
    """How far the first step goes along the gradient of the weights, rank 64 over rank 4, by scale and optimizer."""
    ratios = {
        (name, optimizer): _first_step(scale, 64, optimizer) / _first_step(scale, 4, optimizer)
        for name, scale in (("alpha / r", _by_rank), ("alpha / sqrt(r)", _by_root))
        for optimizer in ("SGD", "Adam")
    }
    text = "; ".join(f"{name}, {optimizer} {ratio:.2f}" for (name, optimizer), ratio in ratios.items())
    away = {key: abs(math.log(ratio)) for key, ratio in ratios.items()}
    holds = {one: away["alpha / sqrt(r)", one] < away["alpha / r", one] for one in ("SGD", "Adam")}
    verdict = "does not hold"
    if holds["SGD"]:
        verdict = "holds" if holds["Adam"] else "holds only if the optimizer is SGD"
    return Found(f"first step along the gradient at rank 64 over that at rank 4: {text}", verdict)


def _by_rank(rank: int) -> float:
    return 16 / rank


def _by_root(rank: int) -> float:
    return 16 / math.sqrt(rank)


def _first_step(scale: Callable[[int], float], rank: int, optimizer: str) -> float:
    """The part of scale * B A along a gradient of rank one after a step from B = 0, averaged over draws."""
    parts, width = [], 128
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        left, right = (torch.randn(width, dtype=torch.float64, generator=generator) for _ in range(2))
        a = (torch.rand(rank, width, dtype=torch.float64, generator=generator) * 2 - 1) / math.sqrt(width)
        towards_b = scale(rank) * torch.outer(left, a @ right)
        b = towards_b if optimizer == "SGD" else towards_b.sign()
        parts.append(float((scale(rank) * (b @ a) * torch.outer(left, right)).sum()))
    return fmean(parts)


def alpha_or_rate() -> Found:
    """The product after 50 steps: alpha doubled, beside the learning rate doubled, and both roots doubled."""
    wide, root = _trained(alpha=32, rate=1e-3, first=1.0), math.sqrt(2)
    rate = _trained(alpha=16, rate=2e-3, first=1.0)
    roots = _trained(alpha=16, rate=1e-3 * root, first=root)
    doubled, scaled = (float((other - wide).norm() / wide.norm()) for other in (rate, roots))
    figures = (
        f"weights after 50 steps with alpha doubled: {percent(doubled)} off with the learning rate doubled instead, "
        f"{size(scaled)} with it and A's first weights times the square root of 2"
    )
    if doubled < 0.01:
        return Found(figures, "holds")
    both = "holds only if A's first weights grow too, both by the square root"
    return Found(figures, both if scaled < 1e-6 else "does not hold")


def _trained(alpha: float, rate: float, first: float, rank: int = 4, width: int = 16) -> Tensor:
    """alpha / r B A after 50 steps of Adam on a linear regression, with A's first weights times `first`."""
    generator = torch.Generator().manual_seed(0)
    inputs, goal = (torch.randn(rows, width, dtype=torch.float64, generator=generator) for rows in (64, width))
    a = (torch.rand(rank, width, dtype=torch.float64, generator=generator) * 2 - 1) / math.sqrt(width) * first
    b = torch.zeros(width, rank, dtype=torch.float64)
    weights = [a.requires_grad_(), b.requires_grad_()]
    optimizer = torch.optim.Adam(weights, lr=rate, eps=1e-12)
    for _ in range(50):
        loss = (inputs @ (alpha / rank * b @ a - goal).T).square().mean()
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient
        optimizer.step()
    return (alpha / rank * b @ a).detach()


CLAIMS = (
    Claim(
        "LoRA's scale",
        "alpha / sqrt(r) makes the size of an update independent of the rank; alpha / r shrinks it",
        "2312.03732",
        "20 draws of a gradient",
        lora_scale,
    ),
    Claim(
        "LoRA's alpha",
        "With Adam, a larger alpha is the same as a larger learning rate",
        "2106.09685",
        "50 steps on a linear regression",
        alpha_or_rate,
    ),
)
