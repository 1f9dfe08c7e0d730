"""Sampling by inverting the distribution function: one uniform decides one token, whatever the batch."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from rlhf_cli.functional.logprobs import log_softmax
from rlhf_cli.functional.truncation import NO_TRUNCATION, Truncation

BLOCK: Final = 256
"""Tokens per block: the cumulative sum runs over V / 256 block masses, then inside the block that was hit."""
ROWS: Final = 4
"""Rows whose masses are summed at once on a CPU: their copy in float64 stays in its cache."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings of a rollout's sampling."""

    max_new_tokens: int
    temperature: float
    """0 is greedy; truncation then changes nothing."""
    truncation: Truncation = NO_TRUNCATION


def inverse_cdf(
    logits: Tensor, uniform: Tensor, temperature: float, keep: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sample tokens [B] and their log-probabilities [B] from softmax(logits / temperature), logits [B, V].

    `uniform` [B] is in [0, 1). `keep`, bool [B, V], restricts the distribution to its tokens and renormalises it.
    Token v is chosen when the uniform falls into the interval of length pi(v) that ends at the cumulative mass of
    0..v. Masses are summed in float64. A token of mass zero is never chosen. NaN logits give some token with a NaN
    log-probability; the caller decides what follows.
    """
    logprobs = log_softmax(logits, temperature, keep)
    rows, vocabulary = logprobs.shape
    mass = logprobs.exp()
    if vocabulary % BLOCK:  # padding by nothing would copy
        mass = torch.nn.functional.pad(mass, (0, -vocabulary % BLOCK))
    mass = mass.view(rows, -1, BLOCK)
    at_once = ROWS if mass.device.type == "cpu" else rows
    block_ends = torch.cat([part.sum(-1, dtype=torch.float64) for part in mass.split(at_once)]).cumsum(-1)
    point = _below(uniform.unsqueeze(1) * block_ends[:, -1:], block_ends[:, -1:])
    block = torch.searchsorted(block_ends, point, right=True).clamp(max=mass.shape[1] - 1)  # a NaN sorts last
    before = torch.nn.functional.pad(block_ends, (1, 0)).gather(1, block)
    token_ends = mass[torch.arange(rows, device=mass.device), block.squeeze(1)].double().cumsum(-1)
    within = torch.searchsorted(token_ends, _below(point - before, token_ends[:, -1:]), right=True)
    tokens = (block * BLOCK + within).clamp(max=vocabulary - 1)
    return tokens.squeeze(1), logprobs.gather(1, tokens).squeeze(1)


def greedy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable token [B] of each row and its log-probability at temperature 1 [B]."""
    logprobs, tokens = log_softmax(logits, 1.0).max(-1)
    return tokens, logprobs


def _below(point: Tensor, end: Tensor) -> Tensor:
    """Keep `point` below `end`: rounding may reach it, and no token lies there."""
    return point.minimum(torch.nextafter(end, torch.zeros_like(end)))
