"""Top-k, top-p and min-p: which tokens a position may be sampled from, and the sets that were kept, stored compactly.

A truncated policy is softmax(z/T) renormalised over the kept tokens. Which tokens those are depends on the weights, so
the sampler's sets are stored and used again wherever the policy's log-probabilities are taken: a set worked out afresh
from newer weights may leave out the very token that was sampled, and normalises by another mass. The reference is
tempered and never truncated: a KL against a reference that is cut where the policy is has no fixed reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from rlhf_cli.types import KeptSets


@dataclass(frozen=True, slots=True)
class Truncation:
    """How the sampling distribution is cut off; see `kept`."""

    top_k: int | None
    """At least 1; None keeps all."""
    top_p: float
    """In (0, 1]; 1 keeps all."""
    min_p: float
    """In [0, 1]; 0 keeps all."""

    @property
    def active(self) -> bool:
        """Whether it can leave out any token."""
        return self.top_k is not None or self.top_p < 1.0 or self.min_p > 0.0


NO_TRUNCATION: Final = Truncation(top_k=None, top_p=1.0, min_p=0.0)


def kept(logprobs: Tensor, top_k: int | None, top_p: float, min_p: float) -> Tensor:
    """The tokens that are left, bool [..., V], of tempered log-probabilities [..., V].

    In this order, which is that of transformers (vLLM takes min_p first, so that its top_p renormalises after both):

    top_k  the k most probable (Fan et al. 2018, arXiv:1805.04833)
    top_p  of those, renormalised, the fewest that together have at least the mass p (Holtzman et al. 2019,
           arXiv:1904.09751)
    min_p  of those, the ones with at least p times the probability of the most probable (Nguyen et al. 2024,
           arXiv:2407.01082)

    Of equally probable tokens on the border the first in the vocabulary are kept, so that k means exactly k. The most
    probable token is always kept.
    """
    keep = torch.ones_like(logprobs, dtype=torch.bool)
    if top_k is not None:
        keep = _top_k(logprobs, top_k)
    if top_p < 1.0:
        keep = _top_p(logprobs.masked_fill(~keep, -math.inf), top_p)
    if min_p > 0.0:
        mass = logprobs.exp()
        keep = keep & (mass >= min_p * mass.amax(-1, keepdim=True))
    return keep


def _top_k(logprobs: Tensor, k: int) -> Tensor:
    count = min(k, logprobs.shape[-1])
    return _most_probable(logprobs, logprobs.topk(count).values[..., -1:], count)


def _top_p(logprobs: Tensor, p: float) -> Tensor:
    mass = logprobs.exp()
    total = mass.sum(-1, keepdim=True, dtype=torch.float64)
    # All tokens below (1 - p) / V together have less than 1 - p, so they are never needed: sorting the rest is enough.
    candidates = int((mass >= (1 - p) * total / mass.shape[-1]).sum(-1).max())
    ordered = logprobs.topk(candidates).values
    before = torch.nn.functional.pad(ordered.exp().cumsum(-1, dtype=torch.float64)[..., :-1], (1, 0))
    count = (before < p * total).sum(-1, keepdim=True)
    return _most_probable(logprobs, ordered.gather(-1, count - 1), count)


def _most_probable(logprobs: Tensor, least: Tensor, count: Tensor | int) -> Tensor:
    """The `count` most probable tokens, when `least` [..., 1] is the lowest log-probability among them."""
    above, tied = logprobs > least, logprobs == least
    return above | (tied & (tied.cumsum(-1, dtype=torch.int32) <= count - above.sum(-1, keepdim=True)))


def packed(keep: Tensor) -> KeptSets:
    """The sets of N positions out of bool [N, V]."""
    return KeptSets(keep.nonzero()[:, 1].int(), _offsets(keep.sum(1)), keep.shape[1])


def joined(parts: Sequence[KeptSets]) -> KeptSets:
    """The positions of all the parts, one part after the other."""
    sizes = torch.cat([part.offsets.diff() for part in parts])
    return KeptSets(torch.cat([part.ids for part in parts]), _offsets(sizes), parts[0].vocabulary)


def selected(sets: KeptSets, positions: Tensor) -> KeptSets:
    """The sets of some positions: int64 indices [n], in any order, or a bool mask [N]."""
    starts, sizes = sets.offsets[:-1][positions], sets.offsets.diff()[positions]
    offsets = _offsets(sizes)
    within = torch.arange(int(offsets[-1]), device=offsets.device) + (starts - offsets[:-1]).repeat_interleave(sizes)
    return KeptSets(sets.ids[within], offsets, sets.vocabulary)


def of_rows(sets: KeptSets | None, completion_mask: Tensor, rows: Tensor) -> KeptSets | None:
    """The sets of some rows of a rollout, in the order of `tokens[rows][completion_mask[rows]]`.

    `sets` has a position for each True of `completion_mask` [B, T], row after row; `rows` may be in any order.
    """
    if sets is None:
        return None
    positions = completion_mask.flatten().cumsum(0).view(completion_mask.shape) - 1
    return selected(sets, positions[rows][completion_mask[rows]])


def mask(sets: KeptSets | None, rows: slice, positions: int) -> Tensor | None:
    """The sets of a slice of the `positions` there are, as bool [chunk, V]; None where nothing was truncated.

    Raises ValueError for sets of another number of positions.
    """
    if sets is None:
        return None
    if len(sets) != positions:
        raise ValueError(f"{len(sets)} kept sets for {positions} positions")
    offsets = sets.offsets[rows.start : min(rows.stop, positions) + 1]
    row_of = torch.arange(len(offsets) - 1, device=offsets.device).repeat_interleave(offsets.diff())
    keep = torch.zeros(len(offsets) - 1, sets.vocabulary, dtype=torch.bool, device=offsets.device)
    keep[row_of, sets.ids[offsets[0] : offsets[-1]].long()] = True
    return keep


def _offsets(sizes: Tensor) -> Tensor:
    return torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
