"""Sums and means over the positions where a mask is True.

Like `returns`, this module imports torch only for its types: validating a config must not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over the last dimension where `mask`: [B, T] -> [B]. A NaN outside the mask does not count."""
    return values.masked_fill(~mask, 0.0).sum(-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over all positions where `mask`: [B, T] -> scalar; zero for an empty mask."""
    return masked_sum(values, mask).sum() / mask.sum().clamp(min=1)
