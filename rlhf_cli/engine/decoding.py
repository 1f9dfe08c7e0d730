"""The decode loop: one token after the other, for all completions of a batch at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from rlhf_cli.functional.logprobs import Head, log_softmax
from rlhf_cli.functional.sampling import greedy, inverse_cdf
from rlhf_cli.functional.truncation import Truncation, joined, kept, packed, selected
from rlhf_cli.seeding import uniforms
from rlhf_cli.types import KeptSets, PromptBatch, Rollout

FULL: Final = 0.875
"""Share of a reader's texts that must still be written: moving the others together costs as much as reading on."""


class Reader(Protocol):
    """A model in the middle of some texts, one a completion: what it has read of them is in its cache."""

    def read(self, tokens: Tensor) -> Tensor:
        """Read one more token of every text, int64 [b]; the hidden states [b, H] that predict the next ones."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these of the texts, int64 indices in ascending order."""
        ...


@dataclass(frozen=True, slots=True)
class Texts:
    """What tokens mean to a policy."""

    ends: tuple[int, ...]
    """Every token that ends a completion."""
    pad: int
    """Stands where a completion has ended."""
    decode: Callable[[Sequence[int]], str]


@torch.no_grad()
def decode(
    reader: Reader,
    hidden: Tensor,
    head: Head,
    texts: Texts,
    batch: PromptBatch,
    max_new_tokens: int,
    temperature: float,
    tick: Callable[[], None],
    truncation: Truncation,
) -> Rollout:
    """Write a completion for every seed of the batch, calling `tick` after every token.

    `hidden` [B, H] predicts the first tokens; the reader has read the prompts. Completions that have ended leave it
    some at a time. Temperature 0 is greedy; truncation changes nothing there.
    """
    device = hidden.device
    ends, uniform = torch.tensor(texts.ends, device=device), uniforms(batch.seeds, max_new_tokens).to(device)
    tokens = torch.full((len(batch), max_new_tokens), texts.pad, device=device)
    logprobs = torch.zeros(len(batch), max_new_tokens, device=device)
    states = torch.zeros(len(batch), max_new_tokens, hidden.shape[-1], dtype=hidden.dtype, device=device)
    lengths = torch.zeros(len(batch), dtype=torch.long, device=device)
    writing = torch.arange(len(batch), device=device)  # the rows that have not ended, in order
    seats, seated = writing, len(batch)  # where those are among the texts of the reader, and how many it has
    sets: list[tuple[Tensor, KeptSets]] = []  # a token at a time: rows, and what each could be sampled from
    for t in range(max_new_tokens):
        logits, keep = head(hidden), None
        if truncation.active and temperature:
            keep = kept(log_softmax(logits, temperature), truncation.top_k, truncation.top_p, truncation.min_p)
            sets.append((writing, packed(keep)))
        chosen, logprob = inverse_cdf(logits, uniform[writing, t], temperature, keep) if temperature else greedy(logits)
        tokens[writing, t], logprobs[writing, t], states[writing, t] = chosen, logprob, hidden
        lengths[writing] = t + 1
        tick()
        going = (~torch.isin(chosen, ends)).nonzero().squeeze(1)
        writing, seats = writing[going], seats[going]
        if len(writing) == 0 or t + 1 == max_new_tokens:
            break
        if len(writing) <= FULL * seated:
            reader.keep(seats)
            seats, seated = torch.arange(len(writing), device=device), len(writing)
        fed = torch.full((seated,), texts.pad, device=device)
        fed[seats] = chosen[going]
        hidden = reader.read(fed)[seats]

    longest = int(lengths.max())
    mask = torch.arange(longest, device=device) < lengths[:, None]
    truncated = torch.zeros(len(batch), dtype=torch.bool, device=device)
    truncated[writing] = True
    tokens = tokens[:, :longest]
    return Rollout(
        batch=batch,
        tokens=tokens,
        completion_mask=mask,
        logprobs=logprobs[:, :longest],
        hidden=states[:, :longest],
        log_weights=torch.zeros(len(batch), device=device),
        compared=False,
        truncated=truncated,
        texts=tuple(texts.decode(row[keep].tolist()) for row, keep in zip(tokens, mask, strict=True)),
        temperature=temperature,
        kept=_row_after_row(sets) if sets else None,
    )


def _row_after_row(sets: Sequence[tuple[Tensor, KeptSets]]) -> KeptSets:
    """The sets of every row's tokens, from those of every token's rows."""
    rows = torch.cat([rows for rows, _ in sets])
    return selected(joined([sets_of_token for _, sets_of_token in sets]), rows.argsort(stable=True))
