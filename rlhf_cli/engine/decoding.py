"""The decode loop: one token after the other, for all completions of a batch at once."""

from collections.abc import Sequence
from typing import Final, Protocol

import torch
from torch import Tensor

from rlhf_cli.functional.logprobs import Head, log_softmax
from rlhf_cli.functional.sampling import Sampling, greedy, inverse_cdf
from rlhf_cli.functional.truncation import join, pack, sampling_mask, select
from rlhf_cli.models.policy import Policy
from rlhf_cli.seeding import uniforms
from rlhf_cli.types import KeptSets, PromptBatch, Rollout, Tick, Watch

FULL: Final = 0.875
"""Share of active texts below which the reader drops the ended ones: dropping moves memory and costs about a step."""


class Reader(Protocol):
    """A model in the middle of several texts, one per completion, with its cache."""

    def read(self, tokens: Tensor) -> Tensor:
        """Read one more token of every text, int64 [b]; returns the states [b, H] that predict the next tokens."""

    def keep(self, rows: Tensor) -> None:
        """Drop all texts but these, int64 indices in ascending order."""


@torch.no_grad()
def decode(
    reader: Reader,
    hidden: Tensor,
    head: Head,
    policy: Policy,
    batch: PromptBatch,
    sampling: Sampling,
    tick: Tick,
    watch: Watch | None = None,
) -> Rollout:
    """Sample a completion for every seed of the batch, calling `tick` and `watch` after every token.

    The reader has read the prompts; `hidden` [B, H] predicts the first tokens. Ended completions leave the reader in
    groups.
    """
    device, max_new_tokens = hidden.device, sampling.max_new_tokens
    temperature, truncation = sampling.temperature, sampling.truncation
    ends, uniform = torch.tensor(policy.end_tokens, device=device), uniforms(batch.seeds, max_new_tokens).to(device)
    tokens = torch.full((len(batch), max_new_tokens), policy.pad_token, device=device)
    logprobs = torch.zeros(len(batch), max_new_tokens, device=device)
    states = torch.zeros(len(batch), max_new_tokens, hidden.shape[-1], dtype=hidden.dtype, device=device)
    lengths = torch.zeros(len(batch), dtype=torch.long, device=device)
    active = torch.arange(len(batch), device=device)  # the completions that have not ended, ascending
    slots, slot_count = active, len(batch)  # their places among the reader's texts, and the number of its texts
    sets: list[tuple[Tensor, KeptSets]] = []  # for each t: the active completions and their kept sets
    for t in range(max_new_tokens):
        logits, keep = head(hidden), None
        if truncation.is_active and temperature:
            logprobs_of_all = log_softmax(logits, temperature)
            keep = sampling_mask(logprobs_of_all, truncation.top_k, truncation.top_p, truncation.min_p)
            sets.append((active, pack(keep)))
        chosen, logprob = inverse_cdf(logits, uniform[active, t], temperature, keep) if temperature else greedy(logits)
        tokens[active, t], logprobs[active, t], states[active, t] = chosen, logprob, hidden
        lengths[active] = t + 1
        tick()
        if watch is not None:
            watch(tokens[:, : t + 1])
        goes_on = ~torch.isin(chosen, ends)
        if policy.stop_texts:
            goes_on &= ~torch.tensor([_ends(policy, tokens[row, : t + 1].tolist()) for row in active], device=device)
        unfinished = goes_on.nonzero().squeeze(1)
        active, slots = active[unfinished], slots[unfinished]
        if len(active) == 0 or t + 1 == max_new_tokens:
            break
        if len(active) <= FULL * slot_count:
            reader.keep(slots)
            slots, slot_count = torch.arange(len(active), device=device), len(active)
        next_tokens = torch.full((slot_count,), policy.pad_token, device=device)
        next_tokens[slots] = chosen[unfinished]
        hidden = reader.read(next_tokens)[slots]

    longest = int(lengths.max())
    mask = torch.arange(longest, device=device) < lengths[:, None]
    truncated = torch.zeros(len(batch), dtype=torch.bool, device=device)
    truncated[active] = True
    tokens = tokens[:, :longest]
    return Rollout(
        batch=batch,
        tokens=tokens,
        completion_mask=mask,
        logprobs=logprobs[:, :longest],
        hidden=states[:, :longest],
        truncated=truncated,
        texts=tuple(policy.decode(row[keep].tolist()) for row, keep in zip(tokens, mask, strict=True)),
        temperature=temperature,
        kept=_by_completion(sets) if sets else None,
    )


def _ends(policy: Policy, completion: Sequence[int]) -> bool:
    """Whether one of the policy's stop texts appears at the end of the completion."""
    longest = max(map(len, policy.stop_texts))
    # a character takes at most four tokens, and the last token may be a long text of its own
    end = policy.decode(completion[-4 * longest - 1 :])
    return any(text in end for text in policy.stop_texts)


def _by_completion(sets: Sequence[tuple[Tensor, KeptSets]]) -> KeptSets:
    """Reorder the sets: from one group per position to one completion after the other."""
    rows = torch.cat([rows for rows, _ in sets])
    return select(join([group for _, group in sets]), rows.argsort(stable=True))
