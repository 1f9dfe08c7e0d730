"""KL(policy || reference): the sampled estimator k1 and the exact value over the vocabulary, in nats."""

import torch
from torch import Tensor

from rlhf_cli.functional.logprobs import (
    CHUNK,
    Head,
    block_size,
    log_softmax,
    row_slices,
    rowwise,
    split_head,
    token_slopes,
)
from rlhf_cli.functional.truncation import unpack
from rlhf_cli.types import KeptSets


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """log pi - log pi_ref at the sampled tokens: unbiased, may be negative.

    Never clamp it: that biases value and gradient.

    Schulman 2020, http://joschu.net/blog/kl-approx.html.
    """
    return logprobs - ref_logprobs


def exact_kl(policy_log_softmax: Tensor, ref_log_softmax: Tensor, *, by_row: bool = False) -> Tensor:
    """sum_v pi(v) (log pi(v) - log pi_ref(v)) of full distributions: [..., V] -> [...]; >= 0 up to rounding.

    The reference is finite. A token of probability zero under the policy (log-probability -inf) contributes zero.
    `by_row`: of [n, V], and a row's bits depend on no thread and no other row.
    """
    return _sum(policy_log_softmax.exp() * _finite(policy_log_softmax).sub_(ref_log_softmax), by_row=by_row)


@torch.no_grad()
def compare_distributions(
    hidden: Tensor,
    ref_hidden: Tensor,
    tokens: Tensor,
    head: Head,
    temperature: float,
    kept: KeptSets | None = None,
    chunk: int = CHUNK,
    *,
    ref_head: Head | None = None,
    slopes: int = 0,
    by_row: bool = False,
) -> tuple[Tensor, ...]:
    """Compare policy and reference over the whole vocabulary, row by row.

    Returns three float32 [N]: the reference's log-probabilities of `tokens` [N], the exact KL, the policy's entropy;
    then as many as `slopes` says of d log pi(token) / d hidden and d KL / d hidden, [N, H] each.
    `hidden` and `ref_hidden` [N, H] predicted the same positions under policy and reference; both go through the same
    frozen head, unless the reference has a `ref_head` of its own. Cost: two head products per row, and two [chunk, V]
    tensors of memory. Only the policy is truncated to the sets `kept`: the reference must be one fixed distribution.
    `by_row`: a row's bits depend on no thread and no other row.
    """
    columns: list[list[Tensor]] = [[] for _ in range(3 + slopes)]
    ref_head = ref_head or head
    for part in row_slices(len(tokens), chunk):
        logits, to_hidden = split_head(hidden[part], head, slopes > 0)
        ref_logits = ref_head(ref_hidden[part])
        of_logits = [torch.empty_like(logits) for _ in range(slopes)]
        for block in row_slices(len(logits), block_size(logits)):
            rows = slice(part.start + block.start, part.start + block.stop)
            keep = unpack(kept, rows, len(tokens))
            policy = log_softmax(logits[block], temperature, keep)
            reference = log_softmax(ref_logits[block], temperature)
            columns[0].append(reference.gather(-1, tokens[rows].unsqueeze(-1)).squeeze(-1))
            probabilities, finite = policy.exp(), policy if keep is None else _finite(policy)
            columns[2].append(-_sum(probabilities * finite, by_row=by_row))
            above = finite.sub_(reference)
            kl = _sum(probabilities * above, by_row=by_row)
            columns[1].append(kl)
            if slopes > 1:
                of_logits[1][block] = _kl_slopes(above, probabilities, kl, temperature)
            if slopes:
                of_logits[0][block] = token_slopes(probabilities, tokens[rows], temperature)
        for column, slope in zip(columns[3:], of_logits, strict=True):
            column.append(to_hidden(slope))
    return tuple(map(torch.cat, columns))


def token_kl(
    hidden: Tensor,
    ref_hidden: Tensor,
    head: Head,
    temperature: float,
    kept: KeptSets | None = None,
    chunk: int = CHUNK,
    *,
    ref_head: Head | None = None,
    by_row: bool = False,
) -> Tensor:
    """Exact KL(policy || reference) at each row: hidden, ref_hidden [N, H] -> [N], differentiable in `hidden`.

    Only the policy is truncated to the sets `kept`. `ref_head` is the reference's own head, where it has another one.
    `by_row`: a row's bits depend on no thread and no other row.
    """
    to_logits = ref_head or head

    def exact(logits: Tensor, rows: slice, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        policy = log_softmax(logits, temperature, unpack(kept, rows, len(ref_hidden)))
        reference = log_softmax(to_logits(ref_hidden[rows]), temperature)
        values = exact_kl(policy, reference, by_row=by_row)
        if not with_gradient:
            return values, None
        above = _finite(policy).sub_(reference)
        return values, _kl_slopes(above, policy.exp(), values, temperature)

    return rowwise(hidden, head, exact, chunk)


def _kl_slopes(above: Tensor, probabilities: Tensor, kl: Tensor, temperature: float) -> Tensor:
    """d KL / d logits [n, V]: pi(v) (above(v) - KL) / T, with above = log pi - log pi_ref, which it overwrites."""
    return above.sub_(kl.unsqueeze(-1)).mul_(probabilities).div_(temperature)


def _sum(values: Tensor, *, by_row: bool) -> Tensor:
    """The sum of each row, [n, V] -> [n]. torch divides a row that is alone among the threads, but not one of two."""
    return values.expand(2, -1).sum(-1)[:1] if by_row and len(values) == 1 else values.sum(-1)


def _finite(logprobs: Tensor) -> Tensor:
    """Replace -inf by the lowest finite number, in a copy: 0 * -inf would be NaN."""
    return logprobs.clamp(min=torch.finfo(logprobs.dtype).min)
