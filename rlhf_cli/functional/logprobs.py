"""Log-probabilities of chosen tokens, one function for policy and reference, always of the tempered logits in float32.

Logits are made from hidden states a chunk of rows at a time and forgotten: no tensor of [B, T, V] ever exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from rlhf_cli.functional.truncation import mask
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
    """log pi(token) for each row: hidden [N, H], tokens [N] -> [N], differentiable in `hidden`. The head is frozen.

    `kept` holds the set that each of the N tokens was sampled from; a token outside its set has -inf.
    """

    def chosen(hidden: Tensor, rows: slice) -> Tensor:
        policy = log_softmax(head(hidden), temperature, mask(kept, rows, len(tokens)))
        return policy.gather(-1, tokens[rows].unsqueeze(-1)).squeeze(-1)

    return rowwise(hidden, chosen, chunk)


def rowwise(hidden: Tensor, value: Callable[[Tensor, slice], Tensor], chunk: int = CHUNK) -> Tensor:
    """value(hidden[rows], rows), a chunk of rows at a time: [N, H] -> [N], differentiable in `hidden`.

    `value` must treat every row on its own. Where a gradient is wanted, d value / d hidden is worked out while the
    logits are there and kept instead of them ([N, H] instead of [N, V]): rows are independent, so the gradient of the
    sum of a chunk's values holds every row's own.
    """
    # torch leaves Function.apply without annotations.
    result: Tensor = _Rowwise.apply(hidden, value, chunk)  # type: ignore[no-untyped-call]
    return result


class _Rowwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, value: Callable[[Tensor, slice], Tensor], chunk: int) -> Tensor:
        with_gradient = ctx.needs_input_grad[0]
        values, jacobian = [], []
        for start in range(0, max(len(hidden), 1), chunk):  # no rows: one empty chunk, so that dtypes are right
            rows = slice(start, start + chunk)
            with torch.set_grad_enabled(with_gradient):
                h = hidden[rows].detach().requires_grad_(with_gradient)
                v = value(h, rows)
                if with_gradient:
                    jacobian.append(torch.autograd.grad(v.sum(), h)[0])
            values.append(v.detach())
        if with_gradient:
            ctx.save_for_backward(torch.cat(jacobian))
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (jacobian,) = ctx.saved_tensors
        return jacobian * grads[0].unsqueeze(-1).to(jacobian.dtype), None, None
