"""Arithmetic in which a row's bits depend on the row alone: not on the rows beside it, the padding or the threads.

A matrix product adds in an order that its shape and the number of threads may change. Here products go through oneDNN,
attention sees keys at their positions in blocks of fixed size, and a weight's gradient is summed in blocks of tokens.
Attention is float32, whatever the weights are. Measured for float32 and bfloat16 on AMD CPUs; `is_invariant` tries the
machine, and the engine has this arithmetic only where that holds.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from rlhf_cli.engine.kernels import Frozen, beside_zeros
from rlhf_cli.functional.logprobs import apply_autograd

QUERIES: Final = 16
"""A multiple of it is the number of queries of a text: their last rows are then no special case of a product."""
KEYS: Final = 16
"""A multiple of it is the number of keys of a text."""
BLOCK: Final = 128
"""Keys whose values are added by one product: longer sums may be cut at places that depend on their length."""
SMALL: Final = 400
"""Multiplications of a product below which torch adds in another order."""
LEAST: Final = 4
"""Queries of a text from which on its products add in the order that they have for many."""
TOKENS: Final = 64
"""Tokens whose share of a weight's gradient is added by one product."""


def round_up(count: int, multiple: int) -> int:
    """The smallest multiple that is at least `count`."""
    return -(-count // multiple) * multiple


def multiply(x: Tensor, weight: Tensor) -> Tensor:
    """x weight^T: x [n, in], weight [out, in] -> [n, out]."""
    wide = beside_zeros(x) if len(x) == 1 else x.contiguous()
    y: Tensor = torch.ops.mkldnn._linear_pointwise(wide, weight.contiguous(), None, "none", [], "")
    return y[: len(x)]


def sum_outer(x: Tensor, y: Tensor) -> Tensor:
    """x^T y, the sum over tokens: x [n, a], y [n, b] -> [a, b], with a the smaller one."""
    narrow, whole = x.shape[1], len(x) - len(x) % TOKENS
    x = torch.nn.functional.pad(x, (0, -narrow % 4))  # rows of a product that are no multiple depend on the threads
    total = _outer(x[:whole].view(-1, TOKENS, x.shape[1]), y[:whole].view(-1, TOKENS, y.shape[1]))
    if whole < len(x):
        rest = (0, 0, 0, TOKENS - len(x) + whole)
        total += _outer(*(torch.nn.functional.pad(part[whole:], rest)[None] for part in (x, y)))
    return total[:narrow]


def _outer(x: Tensor, y: Tensor) -> Tensor:
    return torch.bmm(x.transpose(1, 2), y).sum(0)


def adapt(x: Tensor, frozen: Frozen, a: Tensor, b: Tensor) -> Tensor:
    """x W^T + (x A^T) B^T, without a gradient: x [n, in], A [r, in], B [r, out] -> [n, out]."""
    return frozen(x).add_(multiply(multiply(x, a), b.t()))


class Adapted(torch.autograd.Function):
    """A layer x -> x W^T + (x A^T) B^T, or its gradient alone where the output is known already.

    W is frozen; A [r, in] and B [r, out], both None without an adapter, are learned. Without `known` it is invariant;
    the gradient is so where W is.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, known: Tensor | None, frozen: Frozen, a: Tensor | None, b: Tensor | None
    ) -> Tensor:
        ctx.frozen = frozen
        ctx.save_for_backward(*(() if a is None or b is None else (x, a, b)))
        if known is not None:
            return known
        return frozen(x) if a is None or b is None else adapt(x, frozen, a, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = grads
        of_x, saved = ctx.frozen.backward(gradient), ctx.saved_tensors  # once: recomputed activations are given once
        if not saved:
            return of_x, None, None, None, None
        x, a, b = saved
        if not ctx.frozen.invariant:
            of_narrow = gradient @ b.t()  # narrow = x A^T
            return of_x.addmm_(of_narrow, a), None, None, of_narrow.t() @ x, (x @ a.t()).t() @ gradient
        of_narrow = multiply(gradient, b)
        of_x += multiply(of_narrow, a.t())
        return of_x, None, None, sum_outer(of_narrow, x), sum_outer(multiply(x, a), gradient)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, border: int = 0) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v: query [b, g, M, d], key and value [b, g, S, d] -> [b, g, M, d].

    S is a multiple of `KEYS`, and so is `border`, the number of keys that a completion has from its prompt: these and
    its own are added apart. The mask is [b, 1, M, S].
    """
    if query.requires_grad and torch.is_grad_enabled():
        return apply_autograd(_Attention, query, key, value, mask, border)
    shape = query.shape
    query, key, value = (x.flatten(0, 1) for x in (query, key, value))
    return _weighted(_probabilities(query, key, mask, shape[1]), value, border).view(shape)


class PromptKeys(NamedTuple):
    """The keys [g, P, d, S] and values [g, P, S, d] of P prompts, and which prompts the completions continue."""

    keys: Tensor
    values: Tensor
    copies: int
    """Completions of each prompt, at most."""
    slots: Tensor | None = None
    """int64 [b]: each completion's place among `copies` for every prompt; None: they are all there, in order."""

    def keep(self, rows: Tensor) -> PromptKeys:
        """The prompts of these completions alone, int64 [b] in ascending order."""
        slots = rows if self.slots is None else self.slots[rows]
        prompts, numbers = torch.unique(slots // self.copies, return_inverse=True)
        slots = numbers * self.copies + slots % self.copies
        keys, values = self.keys, self.values
        if len(prompts) < keys.shape[1]:
            keys, values = keys.index_select(1, prompts), values.index_select(1, prompts)
        are_all = len(slots) == len(prompts) * self.copies
        return PromptKeys(keys, values, self.copies, None if are_all else slots)

    def group(self, rows: Tensor) -> Tensor:
        """The rows of all completions of a prompt, one below the other: [g, b, M, n] -> [g P, copies M, n]."""
        groups, prompts = self.keys.shape[:2]
        if self.slots is not None:
            places = rows.new_zeros(groups, prompts * self.copies, *rows.shape[2:])
            rows = places.index_copy_(1, self.slots, rows)
        return rows.view(groups * prompts, -1, rows.shape[-1])

    def ungroup(self, rows: Tensor, count: int) -> Tensor:
        """The rows of each completion again: [g P, copies M, n] -> [g, b, M, n], M = `count`."""
        rows = rows.view(len(self.keys), -1, count, rows.shape[-1])
        return rows if self.slots is None else rows.index_select(1, self.slots)


def attend_decoding(query: Tensor, prompts: PromptKeys, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """`attend` of one more token of b completions: query [b, g, M, d] -> [b, g, M, d].

    A completion's own keys are [g, b, d, T] and its values [g, b, T, d], T a multiple of `KEYS`; the mask is
    [b, 1, S + T]. The prompt's keys are read once for all its completions. The products have at least `LEAST` queries,
    and so the bits of `attend`.
    """
    batch, groups, count, size = query.shape
    rows, width = max(count, LEAST, -(-SMALL // (KEYS * size))), value.shape[2]
    asked = query.new_zeros(groups, batch, rows, size)
    torch.mul(query.transpose(0, 1), size**-0.5, out=asked[:, :, :count])
    of_prompt = prompts.ungroup(torch.bmm(prompts.group(asked), prompts.keys.flatten(0, 1)), rows)
    of_own = torch.bmm(asked.flatten(0, 1), key.flatten(0, 1)).view(groups, batch, rows, width)
    probabilities = torch.softmax(torch.cat([of_prompt, of_own], -1).add_(mask), -1)
    in_prompt, in_own = probabilities[..., :-width], probabilities[..., -width:]
    result = prompts.ungroup(_weighted(prompts.group(in_prompt), prompts.values.flatten(0, 1)), rows).flatten(0, 1)
    result = _add_weighted(result, in_own.flatten(0, 1), value.flatten(0, 1))
    return result.view(groups, batch, rows, size)[:, :, :count].transpose(0, 1)


def _probabilities(query: Tensor, key: Tensor, mask: Tensor, groups: int) -> Tensor:
    """[b g, M, S] of query [b g, M, d] and key [b g, S, d]."""
    scores = torch.bmm(query * query.shape[-1] ** -0.5, key.transpose(1, 2))
    scores.unflatten(0, (-1, groups)).add_(mask)
    return torch.softmax(scores, -1)


def _weighted(probabilities: Tensor, value: Tensor, border: int = 0) -> Tensor:
    """[b g, M, d] of probabilities [b g, M, S] and value [b g, S, d]: the keys before the border, then the others."""
    first = border or value.shape[1]
    result = torch.bmm(probabilities[..., : min(first, BLOCK)], value[:, : min(first, BLOCK)])
    result = _add_weighted(result, probabilities[..., BLOCK:first], value[:, BLOCK:first])
    return _add_weighted(result, probabilities[..., first:], value[:, first:])


def _add_weighted(result: Tensor, probabilities: Tensor, value: Tensor) -> Tensor:
    """Add block after block, so that keys with a probability of zero behind the end change nothing."""
    for start in range(0, value.shape[1], BLOCK):
        result.baddbmm_(probabilities[..., start : start + BLOCK], value[:, start : start + BLOCK])
    return result


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, border: int) -> Tensor:
        ctx.shape = query.shape
        query, key, value = (x.flatten(0, 1) for x in (query, key, value))
        result = _weighted(_probabilities(query, key, mask, ctx.shape[1]), value, border)
        ctx.save_for_backward(query, key, value, mask, result)
        return result.view(ctx.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, result = ctx.saved_tensors
        gradient = grads[0].flatten(0, 1)
        probabilities = _probabilities(query, key, mask, ctx.shape[1])  # again: keeping them would take S M numbers
        of_value = torch.bmm(probabilities.transpose(1, 2), gradient)
        of_scores = torch.bmm(gradient, value.transpose(1, 2)).sub_((gradient * result).sum(-1, keepdim=True))
        of_scores.mul_(probabilities).mul_(query.shape[-1] ** -0.5)
        of_query, of_key = torch.bmm(of_scores, key), torch.bmm(of_scores.transpose(1, 2), query)
        return *(x.unflatten(0, (-1, ctx.shape[1])) for x in (of_query, of_key, of_value)), None, None
