"""Texts of different lengths as one row of tokens without padding, and what each token of it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_cli.engine.kernels import attention, folded, rows_of
from rlhf_cli.types import Prompt, Rollout


@dataclass(frozen=True, slots=True)
class Ragged:
    """R texts one after the other, n tokens in all: linear layers take them as they are, attention padded."""

    lengths: Tensor
    """int64 [R]."""
    width: int
    """Of the longest text."""
    places: Tensor | None
    """int64 [n]: each token's place in the padded [R * width]; None where all texts are equally long."""

    @classmethod
    def of(cls, lengths: Tensor) -> Ragged:
        """Texts of these lengths, zero allowed."""
        width = int(lengths.max())
        mask = torch.arange(width, device=lengths.device) < lengths.unsqueeze(1)
        return cls(lengths, width, None if bool(mask.all()) else mask.flatten().nonzero().squeeze(1))

    @property
    def mask(self) -> Tensor:
        """Which places of [R, width] hold a token, bool."""
        return torch.arange(self.width, device=self.lengths.device) < self.lengths.unsqueeze(1)

    @property
    def columns(self) -> Tensor:
        """Each token's number in its own text, int64 [n]."""
        return torch.arange(self.width, device=self.lengths.device).expand(len(self.lengths), -1)[self.mask]

    def padded(self, packed: Tensor) -> Tensor:
        """[n, ...] -> [R, width, ...], zero in the padding."""
        shape = (len(self.lengths), self.width, *packed.shape[1:])
        if self.places is None:
            return packed.view(shape)
        return packed.new_zeros(shape).flatten(0, 1).index_copy(0, self.places, packed).view(shape)

    def packed(self, padded: Tensor) -> Tensor:
        """[R, width, ...] -> [n, ...]."""
        flat = padded.flatten(0, 1)
        return flat if self.places is None else flat.index_select(0, self.places)


def joined(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Ragged]:
    """The tokens of some texts, int64 [n], and where they are."""
    tokens = torch.tensor([token for text in texts for token in text], dtype=torch.long, device=device)
    return tokens, Ragged.of(torch.tensor([len(text) for text in texts], device=device))


@dataclass(frozen=True, slots=True)
class Scene:
    """Some completions behind their prompts: each prompt stands there once, however many completions follow it.

    First come the tokens of the P prompts, then those of the completions, which see their own prompt and themselves.
    The last token of a completion is left out: nothing is predicted from it.
    """

    tokens: Tensor
    """int64 [n]."""
    positions: Tensor
    """int64 [n], from 0 at the beginning of each prompt."""
    prompts: Ragged
    completions: Ragged
    owner: Tensor
    """int64 [R]: the number of each completion's prompt."""
    read_once: int
    """Tokens of the prompts."""
    predicting: Tensor
    """int64 [N]: where in `tokens` each token of the completions, the last ones too, is predicted from; row by row."""
    among_prompts: Tensor
    among_completions: Tensor
    """The masks of attention."""

    @classmethod
    def of(cls, rollout: Rollout, rows: Tensor, shared_by: int, dtype: torch.dtype) -> Scene:
        """The completions `rows`, int64 [R], of a rollout; `shared_by` query heads to a key head."""
        device, batch = rollout.tokens.device, rollout.batch
        numbers = [row // batch.samples_per_prompt for row in rows.tolist()]
        there: dict[int, Prompt] = {number: batch.prompts[number] for number in numbers}
        owner = torch.tensor([list(there).index(number) for number in numbers], device=device)
        prompt_tokens, prompts = joined([prompt.tokens for prompt in there.values()], device)
        lengths = rollout.lengths[rows]
        completions = Ragged.of(lengths - 1)
        tokens = torch.cat([prompt_tokens, rollout.tokens[rows][:, : completions.width][completions.mask]])
        starts = prompts.lengths[owner].unsqueeze(1)
        positions = (starts + torch.arange(completions.width, device=device))[completions.mask]
        last_of_prompt = (prompts.lengths.cumsum(0) - 1)[owner].unsqueeze(1)
        numbered = torch.arange(len(prompt_tokens), len(tokens), device=device)
        before = torch.cat([last_of_prompt, completions.padded(numbered)], 1)
        causal = torch.ones(2 * [max(prompts.width, completions.width)], dtype=torch.bool, device=device).tril()
        to_prompt = prompts.mask[owner].unsqueeze(1).expand(-1, completions.width, -1)
        to_itself = causal[: completions.width, : completions.width].expand(len(rows), -1, -1)
        return cls(
            tokens=tokens,
            positions=torch.cat([prompts.columns, positions]),
            prompts=prompts,
            completions=completions,
            owner=owner,
            read_once=len(prompt_tokens),
            predicting=before[torch.arange(before.shape[1], device=device) < lengths.unsqueeze(1)],
            among_prompts=folded(causal[None, : prompts.width, : prompts.width], shared_by, dtype),
            among_completions=folded(torch.cat([to_prompt, to_itself], 2), shared_by, dtype),
        )

    def attend(self, _layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What every token sees of those before it: query [n, h, d], key and value [n, g, d] -> [n, h d].

        In the masks' dtype, whatever the states' is.
        """
        count, dtype = self.read_once, query.dtype
        query, key, value = (x.to(self.among_prompts.dtype) for x in (query, key, value))
        q, k, v = (self.prompts.padded(x[:count]) for x in (query, key, value))
        of_prompts = attention(q, k.transpose(1, 2), v.transpose(1, 2), self.among_prompts)
        if count == len(query):
            return self.prompts.packed(of_prompts).to(dtype)
        own_q, own_k, own_v = (self.completions.padded(x[count:]) for x in (query, key, value))
        keys, values = (torch.cat([rows_of(a, self.owner), b], 1).transpose(1, 2) for a, b in ((k, own_k), (v, own_v)))
        of_completions = attention(own_q, keys, values, self.among_completions)
        return torch.cat([self.prompts.packed(of_prompts), self.completions.packed(of_completions)]).to(dtype)
