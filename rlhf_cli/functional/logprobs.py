"""Log-probabilities of tokens under the tempered logits, in float32; policy and reference share the function.

Logits are computed from hidden states a chunk of rows at a time and dropped: no [B, T, V] tensor ever exists.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch import Tensor

from rlhf_cli.functional.truncation import unpack
from rlhf_cli.types import KeptSets

Head = Callable[[Tensor], Tensor]
"""The frozen output layer: hidden states [N, H] -> logits [N, V]."""

CHUNK: Final = 128
"""Rows that go through the head at once: 25 MB of float32 logits at a vocabulary of 49,152."""

BLOCK: Final = 32
"""Rows of logits processed at once on a CPU: they stay in its cache, which makes a softmax 5 times faster."""

RowFunction = Callable[[Tensor, slice, bool], tuple[Tensor, Tensor | None]]
"""(logits [n, V], the slice of their rows, whether a gradient is wanted) -> (one value per row [n], d value / d logits
[n, V] or None)."""


def log_softmax(logits: Tensor, temperature: float, keep: Tensor | None = None) -> Tensor:
    """log softmax(logits / temperature), float32 (float64 stays): [..., V] -> [..., V].

    `keep`, bool [..., V], restricts the softmax to its tokens; the others get -inf.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    tempered = wide if temperature == 1.0 else wide / temperature
    return torch.log_softmax(tempered if keep is None else tempered.masked_fill(~keep, -math.inf), dim=-1)


def token_logprobs(
    hidden: Tensor, tokens: Tensor, head: Head, temperature: float, kept: KeptSets | None = None, chunk: int = CHUNK
) -> Tensor:
    """log pi(token) of each row: hidden [N, H], tokens [N] -> [N], differentiable in `hidden`; the head is frozen.

    `kept` holds the set that each of the N tokens was sampled from; a token outside its set gets -inf.
    """

    def of_tokens(logits: Tensor, rows: slice, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        logprobs = log_softmax(logits, temperature, unpack(kept, rows, len(tokens)))
        values = logprobs.gather(-1, tokens[rows].unsqueeze(-1)).squeeze(-1)
        return values, token_slopes(logprobs.exp_(), tokens[rows], temperature) if with_gradient else None

    return rowwise(hidden, head, of_tokens, chunk)


def token_slopes(probabilities: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """d log pi(token) / d logits [n, V]: (1[v = token] - pi(v)) / T of probabilities [n, V]; it overwrites them."""
    ids = tokens.unsqueeze(-1)
    ones = probabilities.new_ones(ids.shape)
    slopes = probabilities.neg_().scatter_add_(-1, ids, ones)
    return slopes if temperature == 1.0 else slopes.div_(temperature)  # a pass over the vocabulary


def rowwise(hidden: Tensor, head: Head, row_function: RowFunction, chunk: int = CHUNK) -> Tensor:
    """row_function of head(hidden[rows]), a chunk of rows at a time: [N, H] -> [N], differentiable in `hidden`.

    `row_function` must treat rows independently. Where a gradient is needed, d value / d hidden [N, H] is computed at
    once and kept in place of the logits [N, V].
    """
    with_gradient = hidden.requires_grad and torch.is_grad_enabled()
    values, jacobian = [], []
    with torch.no_grad():
        for rows in row_slices(len(hidden), chunk):
            logits, to_hidden = split_head(hidden[rows], head, with_gradient)
            slopes = torch.empty_like(logits) if with_gradient else None
            for block in row_slices(len(logits), block_size(logits)):
                place = slice(rows.start + block.start, rows.start + block.stop)
                block_values, block_slopes = row_function(logits[block], place, with_gradient)
                values.append(block_values)
                if slopes is not None and block_slopes is not None:
                    slopes[block] = block_slopes
            if slopes is not None:
                jacobian.append(to_hidden(slopes))
    joined = torch.cat(values)
    return attach(joined, hidden, torch.cat(jacobian)) if with_gradient else joined


def split_head(hidden: Tensor, head: Head, with_gradient: bool) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The logits [n, V] of hidden states [n, H], and the map of d value / d logits to d value / d hidden [n, H].

    No gradient flows through either; the map exists `with_gradient` alone.
    """
    with torch.set_grad_enabled(with_gradient):
        h = hidden.detach().requires_grad_(with_gradient)
        logits = head(h)
    return logits.detach(), lambda slopes: torch.autograd.grad(logits, h, slopes, retain_graph=True)[0]


def attach(values: Tensor, hidden: Tensor, jacobian: Tensor) -> Tensor:
    """The values [N], differentiable in `hidden` [N, H]: the gradient of each row is known, `jacobian` [N, H]."""
    return apply_autograd(_Attached, values, hidden, jacobian)


def apply_autograd(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    """function.apply(*arguments), typed: torch annotates no result."""
    result: Tensor = function.apply(*arguments)
    return result


def row_slices(count: int, size: int) -> Iterator[slice]:
    """Cut `count` rows into consecutive slices of at most `size`; no rows give one empty slice."""
    for start in range(0, max(count, 1), size):
        yield slice(start, min(start + size, count))


def block_size(logits: Tensor) -> int:
    """Rows to process at once: a GPU is fastest with all of them."""
    return BLOCK if logits.device.type == "cpu" else max(len(logits), 1)


class _Attached(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, hidden: Tensor, jacobian: Tensor) -> Tensor:
        ctx.save_for_backward(jacobian)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (jacobian,) = ctx.saved_tensors
        return None, jacobian * grads[0].unsqueeze(-1).to(jacobian.dtype), None
