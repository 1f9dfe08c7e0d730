"""Log-probabilities of chosen tokens, one function for policy and reference, always of the tempered logits in float32.

Logits are made from hidden states a chunk of rows at a time and forgotten: no tensor of [B, T, V] ever exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch import Tensor

from rlhf_cli.functional.truncation import mask
from rlhf_cli.types import KeptSets

Head = Callable[[Tensor], Tensor]
"""The frozen output layer: hidden states [N, H] -> logits [N, V]."""

CHUNK: Final = 256
"""Rows that go through the head at once: 50 MB of float32 logits at a vocabulary of 49,152."""

BLOCK: Final = 32
"""Rows whose logits are worked on at once on a CPU: they stay in its cache, which makes a softmax 5 times faster."""

OfLogits = Callable[[Tensor, slice], tuple[Tensor, Tensor | None]]
"""(logits [n, V], which rows they are) -> (a value a row [n], d value / d logits [n, V] where it is wanted)."""


def log_softmax(logits: Tensor, temperature: float, keep: Tensor | None = None) -> Tensor:
    """log softmax(logits / temperature), float32 (float64 stays): [..., V] -> [..., V].

    Over the tokens that `keep`, bool [..., V], holds; the others get -inf.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    tempered = wide if temperature == 1.0 else wide / temperature
    return torch.log_softmax(tempered if keep is None else tempered.masked_fill(~keep, -math.inf), dim=-1)


def token_logprobs(
    hidden: Tensor, tokens: Tensor, head: Head, temperature: float, kept: KeptSets | None = None, chunk: int = CHUNK
) -> Tensor:
    """log pi(token) for each row: hidden [N, H], tokens [N] -> [N], differentiable in `hidden`. The head is frozen.

    `kept` holds the set that each of the N tokens was sampled from; a token outside its set has -inf.
    """

    with_gradient = hidden.requires_grad and torch.is_grad_enabled()

    def chosen(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor | None]:
        logprobs = log_softmax(logits, temperature, mask(kept, rows, len(tokens)))
        ids = tokens[rows].unsqueeze(-1)
        values = logprobs.gather(-1, ids)
        if not with_gradient:
            return values.squeeze(-1), None
        # d log pi(a) / d z_v = (1[v = a] - pi(v)) / T
        slopes = logprobs.exp_().neg_().scatter_add_(-1, ids, torch.ones_like(values)).div_(temperature)
        return values.squeeze(-1), slopes

    return rowwise(hidden, head, chosen, chunk)


def rowwise(hidden: Tensor, head: Head, of_logits: OfLogits, chunk: int = CHUNK) -> Tensor:
    """of_logits(head(hidden[rows]), rows), a portion of rows at a time: [N, H] -> [N], differentiable in `hidden`.

    `of_logits` must treat every row on its own. Where a gradient is wanted, d value / d hidden is worked out while the
    logits are there and kept instead of them: [N, H] instead of [N, V].
    """
    return differentiable(_Rowwise, hidden, head, of_logits, chunk)


def differentiable(function: type[torch.autograd.Function], *given: Any) -> Tensor:
    """function.apply(*given), whose result torch leaves without a type."""
    result: Tensor = function.apply(*given)
    return result


def portions(count: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` out of `count` rows; one empty slice where there are none."""
    for start in range(0, max(count, 1), size):
        yield slice(start, min(start + size, count))


def block_size(logits: Tensor) -> int:
    """Rows to work on at once: a GPU does best with all there are."""
    return BLOCK if logits.device.type == "cpu" else max(len(logits), 1)


class _Rowwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head, of_logits: OfLogits, chunk: int) -> Tensor:
        values, jacobian = [], []
        for rows in portions(len(hidden), chunk):
            with torch.set_grad_enabled(ctx.needs_input_grad[0]):
                h = hidden[rows].detach().requires_grad_(ctx.needs_input_grad[0])
                logits = head(h)
            found, slopes = _in_blocks(logits.detach(), of_logits, rows.start)
            values.append(found)
            if ctx.needs_input_grad[0]:
                jacobian.append(torch.autograd.grad(logits, h, slopes)[0])
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(torch.cat(jacobian))
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (jacobian,) = ctx.saved_tensors
        return jacobian * grads[0].unsqueeze(-1).to(jacobian.dtype), None, None, None


def _in_blocks(logits: Tensor, of_logits: OfLogits, start: int) -> tuple[Tensor, Tensor | None]:
    values: list[Tensor] = []
    all_slopes: Tensor | None = None
    for block in portions(len(logits), block_size(logits)):
        found, slopes = of_logits(logits[block], slice(start + block.start, start + block.stop))
        values.append(found)
        if slopes is not None:
            all_slopes = torch.empty_like(logits) if all_slopes is None else all_slopes
            all_slopes[block] = slopes
    return torch.cat(values), all_slopes
