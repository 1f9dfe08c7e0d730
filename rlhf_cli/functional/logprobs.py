"""Log-probabilities of chosen tokens, one function for policy and reference, always of the tempered logits in float32.

Logits are made from hidden states a chunk of rows at a time and forgotten: no tensor of [B, T, V] ever exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from rlhf_cli.functional.truncation import masks
from rlhf_cli.types import KeptSets

Head = Callable[[Tensor], Tensor]
"""The frozen output layer: hidden states [N, H] -> logits [N, V]."""

CHUNK: Final = 256
"""Rows of logits alive at a time: 50 MB of float32 at a vocabulary of 49,152."""


def log_softmax(logits: Tensor, temperature: float, keep: Tensor | None = None) -> Tensor:
    """log softmax(logits / temperature), float32 (float64 stays): [..., V] -> [..., V].

    Over the tokens that `keep`, bool [..., V], holds; the others get -inf.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    tempered = wide / temperature
    return torch.log_softmax(tempered if keep is None else tempered.masked_fill(~keep, -math.inf), dim=-1)


def token_logprobs(
    hidden: Tensor, tokens: Tensor, head: Head, temperature: float, kept: KeptSets | None = None, chunk: int = CHUNK
) -> Tensor:
    """log pi(token) for each row: hidden [N, H], tokens [N] -> [N], differentiable in `hidden`.

    `kept` holds the set that each of the N tokens was sampled from; a token outside its set has -inf.

    The head must be frozen. Where a gradient is wanted, d logprob / d hidden is worked out while the logits are there
    and kept instead of them ([N, H] instead of [N, V]): rows are independent, so the gradient of the sum of a chunk's
    log-probabilities holds every row's own.
    """
    # torch leaves Function.apply without annotations.
    result: Tensor = _TokenLogprobs.apply(hidden, tokens, head, temperature, kept, chunk)  # type: ignore[no-untyped-call]
    return result


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, tokens: Tensor, head: Head, temperature: float, kept: KeptSets | None, chunk: int
    ) -> Tensor:
        with_gradient = ctx.needs_input_grad[0]
        logprobs, jacobian = [], []
        keeps = masks(kept, len(tokens), chunk)
        for h, t, keep in zip(hidden.split(chunk), tokens.split(chunk), keeps, strict=True):
            with torch.set_grad_enabled(with_gradient):
                h = h.detach().requires_grad_(with_gradient)
                chosen = log_softmax(head(h), temperature, keep).gather(-1, t.unsqueeze(-1)).squeeze(-1)
                if with_gradient:
                    jacobian.append(torch.autograd.grad(chosen.sum(), h)[0])
            logprobs.append(chosen.detach())
        if with_gradient:
            ctx.save_for_backward(torch.cat(jacobian))
        return torch.cat(logprobs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (jacobian,) = ctx.saved_tensors
        return jacobian * grads[0].unsqueeze(-1).to(jacobian.dtype), None, None, None, None, None
