"""Texts of different lengths as one row of tokens without padding, and what each token of it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from rlhf_cli.engine.kernels import attention, folded, rows_of
from rlhf_cli.types import Prompt, Rollout


@dataclass(frozen=True, slots=True)
class Ragged:
    """R texts one after the other, n tokens in all: linear layers take them as they are, attention padded."""

    lengths: Tensor
    """int64 [R]."""
    size: int
    """n."""
    width: int
    """Of the longest text."""
    places: Tensor | None
    """int64 [n]: each token's place in the padded [R * width]; None where all texts are equally long."""

    @classmethod
    def of(cls, lengths: Tensor) -> Ragged:
        """Texts of these lengths, zero allowed."""
        size, width = int(lengths.sum()), int(lengths.max())
        mask = torch.arange(width, device=lengths.device) < lengths.unsqueeze(1)
        return cls(lengths, size, width, None if bool(mask.all()) else mask.flatten().nonzero().squeeze(1))

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


@dataclass(frozen=True, slots=True)
class Branches:
    """R texts that go on where others, the branches before them, ended."""

    texts: Ragged
    grown_from: Tensor | None
    """int64 [R]: the branch before that each goes on from; None where there are none."""
    begin: Tensor
    """int64 [R]: the position of each one's first token."""
    there: Tensor
    """bool [R, S]: which of the S keys that its tokens may see, those before it and its own, are of a token."""
    mask: Tensor
    """Of attention: the keys before, and of its own those up to the token itself."""

    @classmethod
    def of(
        cls,
        lengths: Tensor,
        before: Branches | None,
        grown_from: Tensor | None,
        shared_by: int,
        dtype: torch.dtype,
    ) -> Branches:
        """Branches of these lengths; `shared_by` query heads to a key head."""
        texts, device = Ragged.of(lengths), lengths.device
        causal = torch.ones(texts.width, texts.width, dtype=torch.bool, device=device).tril()
        there, seen, begin = texts.mask, causal.expand(len(lengths), -1, -1), torch.zeros_like(lengths)
        if before is not None and grown_from is not None:
            of_others = before.there[grown_from]
            there = torch.cat([of_others, there], 1)
            seen = torch.cat([of_others.unsqueeze(1).expand(-1, texts.width, -1), seen], 2)
            begin = (before.begin + before.texts.lengths)[grown_from]
        return cls(texts, grown_from, begin, there, folded(seen, shared_by, dtype))

    @property
    def positions(self) -> Tensor:
        """Of each token in the whole text that its branch is the end of, int64 [n]."""
        return self.begin.repeat_interleave(self.texts.lengths) + self.texts.columns


@dataclass(frozen=True, slots=True)
class Scene:
    """Texts of which nothing is read twice, as a tree: what all prompts begin with, the prompts, the completions.

    Of every completion the last token is left out: nothing is predicted from it.
    """

    tokens: Tensor
    """int64 [n]: those of all branches, from the root on."""
    tree: tuple[Branches, ...]

    @classmethod
    def of_prompts(cls, prompts: Sequence[Prompt], shared_by: int, dtype: torch.dtype, device: torch.device) -> Scene:
        """The prompts alone, the last branches of their tree; `shared_by` query heads to a key head."""
        texts = [prompt.tokens for prompt in prompts]
        alike = begin_alike(texts)
        tokens = [token for text in (texts[0][:alike], *(text[alike:] for text in texts)) for token in text]
        lengths = torch.tensor([len(text) - alike for text in texts], device=device)
        tree: tuple[Branches, ...]
        if alike:
            root = Branches.of(torch.tensor([alike], device=device), None, None, shared_by, dtype)
            tree = root, Branches.of(lengths, root, torch.zeros_like(lengths), shared_by, dtype)
        else:
            tree = (Branches.of(lengths, None, None, shared_by, dtype),)
        return cls(torch.tensor(tokens, dtype=torch.long, device=device), tree)

    @classmethod
    def of(cls, rollout: Rollout, rows: Tensor, shared_by: int, dtype: torch.dtype) -> Scene:
        """The completions `rows`, int64 [R], of a rollout, behind their prompts."""
        device, batch = rollout.tokens.device, rollout.batch
        numbers = [row // batch.samples_per_prompt for row in rows.tolist()]
        there = list(dict.fromkeys(numbers))
        scene = cls.of_prompts([batch.prompts[number] for number in there], shared_by, dtype, device)
        owner = torch.tensor([there.index(number) for number in numbers], device=device)
        completions = Branches.of(rollout.lengths[rows] - 1, scene.tree[-1], owner, shared_by, dtype)
        tokens = rollout.tokens[rows][:, : completions.texts.width][completions.texts.mask]
        return cls(torch.cat([scene.tokens, tokens]), (*scene.tree, completions))

    @property
    def positions(self) -> Tensor:
        """int64 [n], from 0 at the beginning of each prompt."""
        return torch.cat([branches.positions for branches in self.tree])

    def ends(self, level: int) -> Tensor:
        """int64 [R]: where in `tokens` each branch of a level of the tree ends."""
        read = sum(branches.texts.size for branches in self.tree[:level])
        return read + self.tree[level].texts.lengths.cumsum(0) - 1

    @property
    def predicting(self) -> Tensor:
        """int64 [N]: where in `tokens` each token of the completions, the last too, is predicted from; row by row."""
        completions, device = self.tree[-1], self.tokens.device
        texts, count = completions.texts, len(self.tokens)
        numbered = texts.padded(torch.arange(count - texts.size, count, device=device))
        before = torch.cat([self.ends(-2)[completions.grown_from].unsqueeze(1), numbered], 1)
        return before[torch.arange(texts.width + 1, device=device) <= texts.lengths.unsqueeze(1)]

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What every token sees of those before it: query [n, h, d], key and value [n, g, d] -> [n, h d].

        In the masks' dtype, whatever the states' is. The second and third are the keys and values that the last
        branches see, [R, S, g, d].
        """
        sizes = [branches.texts.size for branches in self.tree]
        dtype, seen = query.dtype, []
        states = (x.to(self.tree[0].mask.dtype).split(sizes) for x in (query, key, value))
        for branches, *parts in zip(self.tree, *states, strict=True):
            q, *own = map(branches.texts.padded, parts)
            if branches.grown_from is None:
                keys, values = own
            else:
                keys, values = (
                    torch.cat([rows_of(x, branches.grown_from), y], 1) for x, y in zip((keys, values), own, strict=True)
                )
            of_branches = attention(q, keys.transpose(1, 2), values.transpose(1, 2), branches.mask)
            seen.append(branches.texts.packed(of_branches))
        return torch.cat(seen).to(dtype), keys, values


def begin_alike(texts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; none of a single one.

    Every prompt keeps at least its last token for itself: its completions are predicted from it.
    """
    columns = zip(*(text[:-1] for text in texts), strict=False)
    return len(list(takewhile(lambda column: len(set(column)) == 1, columns))) if len(texts) > 1 else 0
