"""Top-k, top-p and min-p: the tokens that a position may be sampled from, and a compact form of these sets.

A truncated policy is softmax(z/T) renormalised over the kept tokens. The kept tokens depend on the weights, so the
sampler's sets are stored and reused wherever the policy's log-probabilities are taken: sets computed from newer weights
might lack the token that was sampled, and would normalise by another mass. The reference is tempered but never
truncated: cut like the policy, it would change with the policy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from rlhf_cli.types import KeptSets


@dataclass(frozen=True, slots=True)
class Truncation:
    """Settings of the truncation; see `sampling_mask`."""

    top_k: int | None
    """At least 1; None keeps all."""
    top_p: float
    """In (0, 1]; 1 keeps all."""
    min_p: float
    """In [0, 1]; 0 keeps all."""

    @property
    def is_active(self) -> bool:
        """Whether it can remove any token."""
        return self.top_k is not None or self.top_p < 1.0 or self.min_p > 0.0


NO_TRUNCATION: Final = Truncation(top_k=None, top_p=1.0, min_p=0.0)


def sampling_mask(logprobs: Tensor, top_k: int | None, top_p: float, min_p: float) -> Tensor:
    """Mask of the tokens that may be sampled, bool [..., V], from tempered log-probabilities [..., V].

    The rules apply in the order of transformers (vLLM applies min_p first, so that its top_p renormalises after both):

    top_k  the k most probable (Fan et al. 2018, arXiv:1805.04833)
    top_p  of those, renormalised, the fewest that together have at least the mass p (Holtzman et al. 2019,
           arXiv:1904.09751)
    min_p  of those, the ones with at least p times the probability of the most probable (Nguyen et al. 2024,
           arXiv:2407.01082)

    Ties at the border go to the tokens that come first in the vocabulary, so that k means exactly k. The most probable
    token is always kept. No token of a row with a NaN is.
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
    # All tokens below (1 - p) / V together have less than 1 - p: they are never needed, so only the rest is sorted.
    candidates = int((mass >= (1 - p) * total / mass.shape[-1]).sum(-1).max())
    ordered = logprobs.topk(max(candidates, 1)).values
    before = torch.nn.functional.pad(ordered.exp().cumsum(-1, dtype=torch.float64)[..., :-1], (1, 0))
    count = (before < p * total).sum(-1, keepdim=True).clamp(min=1)  # 0 where a row is NaN
    return _most_probable(logprobs, ordered.gather(-1, count - 1), count)


def _most_probable(logprobs: Tensor, least: Tensor, count: Tensor | int) -> Tensor:
    """Mask of the `count` most probable tokens; `least` [..., 1] is the lowest log-probability among them."""
    above, tied = logprobs > least, logprobs == least
    return above | (tied & (tied.cumsum(-1, dtype=torch.int32) <= count - above.sum(-1, keepdim=True)))


def pack(keep: Tensor) -> KeptSets:
    """The sets of N positions from a mask, bool [N, V]."""
    return KeptSets(keep.nonzero()[:, 1].int(), _offsets(keep.sum(1)), keep.shape[1])


def join(groups: Sequence[KeptSets]) -> KeptSets:
    """The positions of all groups, one group after the other."""
    sizes = torch.cat([sets.offsets.diff() for sets in groups])
    return KeptSets(torch.cat([sets.ids for sets in groups]), _offsets(sizes), groups[0].vocabulary)


def select(sets: KeptSets, positions: Tensor) -> KeptSets:
    """The sets of some positions: int64 indices [n] in any order, or a bool mask [N]."""
    starts, sizes = sets.offsets[:-1][positions], sets.offsets.diff()[positions]
    offsets = _offsets(sizes)
    within = torch.arange(int(offsets[-1]), device=offsets.device) + (starts - offsets[:-1]).repeat_interleave(sizes)
    return KeptSets(sets.ids[within], offsets, sets.vocabulary)


def select_rows(sets: KeptSets | None, completion_mask: Tensor, rows: Tensor) -> KeptSets | None:
    """The sets of some rows of a rollout, in the order of `tokens[rows][completion_mask[rows]]`.

    `sets` has a position for each True of `completion_mask` [B, T], row after row; `rows` may be in any order.
    """
    if sets is None:
        return None
    positions = completion_mask.flatten().cumsum(0).view(completion_mask.shape) - 1
    return select(sets, positions[rows][completion_mask[rows]])


def unpack(sets: KeptSets | None, rows: slice, positions: int) -> Tensor | None:
    """The mask, bool [chunk, V], of a slice of all `positions`; None where nothing was truncated.

    Raises ValueError where the number of sets is not `positions`.
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
