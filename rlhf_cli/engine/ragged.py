"""Texts of different lengths as one row of tokens without padding, and the attention between these tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from rlhf_cli.engine.invariance import round_up
from rlhf_cli.engine.kernels import attention, fold_mask, take_rows
from rlhf_cli.types import Prompt, Rollout


@dataclass(frozen=True, slots=True)
class Ragged:
    """R texts one after the other, n tokens in all: linear layers read them without padding, attention with it."""

    lengths: Tensor
    """int64 [R]."""
    size: int
    """n."""
    width: int
    """Length of the longest text, or of the padding beyond it."""
    places: Tensor | None
    """int64 [n]: each token's place in the padded [R * width]; None where all texts are equally long."""

    @classmethod
    def of(cls, lengths: Tensor, multiple: int = 1) -> Ragged:
        """Texts of these lengths, padded to a multiple of this number; zero is allowed."""
        size, width = int(lengths.sum()), round_up(int(lengths.max()), multiple)
        mask = torch.arange(width, device=lengths.device) < lengths.unsqueeze(1)
        return cls(lengths, size, width, None if bool(mask.all()) else mask.flatten().nonzero().squeeze(1))

    @property
    def mask(self) -> Tensor:
        """bool [R, width]: the places that hold a token."""
        return torch.arange(self.width, device=self.lengths.device) < self.lengths.unsqueeze(1)

    @property
    def columns(self) -> Tensor:
        """int64 [n]: each token's index in its own text."""
        return torch.arange(self.width, device=self.lengths.device).expand(len(self.lengths), -1)[self.mask]

    def pad(self, packed: Tensor) -> Tensor:
        """[n, ...] -> [R, width, ...], zero in the padding."""
        shape = (len(self.lengths), self.width, *packed.shape[1:])
        if self.places is None:
            return packed.view(shape)
        return packed.new_zeros(shape).flatten(0, 1).index_copy(0, self.places, packed).view(shape)

    def pack(self, padded: Tensor) -> Tensor:
        """[R, width, ...] -> [n, ...]."""
        flat = padded.flatten(0, 1)
        return flat if self.places is None else flat.index_select(0, self.places)


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a tree: R texts that each continue a text of the level above."""

    texts: Ragged
    parents: Tensor | None
    """int64 [R]: the text of the level above that each one continues; None at the root."""
    starts: Tensor
    """int64 [R]: the position of each text's first token."""
    visible: Tensor
    """bool [R, S]: which of its S keys, inherited and own, are tokens and not padding."""
    mask: Tensor
    """Mask of attention: a token sees all inherited keys, and its own text up to itself."""

    @classmethod
    def of(
        cls, lengths: Tensor, above: Level | None, parents: Tensor | None, shared_by: int, dtype: torch.dtype
    ) -> Level:
        """A level of texts of these lengths; `shared_by` query heads share a key head."""
        texts, device = Ragged.of(lengths), lengths.device
        causal = torch.ones(texts.width, texts.width, dtype=torch.bool, device=device).tril()
        visible, seen, starts = texts.mask, causal.expand(len(lengths), -1, -1), torch.zeros_like(lengths)
        if above is not None and parents is not None:
            inherited = above.visible[parents]
            visible = torch.cat([inherited, visible], 1)
            seen = torch.cat([inherited.unsqueeze(1).expand(-1, texts.width, -1), seen], 2)
            starts = (above.starts + above.texts.lengths)[parents]
        return cls(texts, parents, starts, visible, fold_mask(seen, shared_by, dtype))

    @property
    def positions(self) -> Tensor:
        """int64 [n]: each token's position in its whole text, from the root on."""
        return self.starts.repeat_interleave(self.texts.lengths) + self.texts.columns


@dataclass(frozen=True, slots=True)
class TextTree:
    """Texts as a tree that reads nothing twice: the shared prefix of all prompts, the prompts, the completions.

    The last token of every completion is left out: it predicts nothing.
    """

    tokens: Tensor
    """int64 [n]: the tokens of all levels, from the root on."""
    levels: tuple[Level, ...]

    @classmethod
    def of_prompts(
        cls, prompts: Sequence[Prompt], shared_by: int, dtype: torch.dtype, device: torch.device
    ) -> TextTree:
        """A tree of prompts alone; `shared_by` query heads share a key head."""
        texts = [prompt.tokens for prompt in prompts]
        shared = shared_prefix_length(texts)
        tokens = arrange(texts, shared)
        lengths = torch.tensor([len(text) - shared for text in texts], device=device)
        levels: tuple[Level, ...]
        if shared:
            root = Level.of(torch.tensor([shared], device=device), None, None, shared_by, dtype)
            levels = root, Level.of(lengths, root, torch.zeros_like(lengths), shared_by, dtype)
        else:
            levels = (Level.of(lengths, None, None, shared_by, dtype),)
        return cls(torch.tensor(tokens, dtype=torch.long, device=device), levels)

    @classmethod
    def of(cls, rollout: Rollout, rows: Tensor, shared_by: int, dtype: torch.dtype) -> TextTree:
        """The completions `rows`, int64 [R], of a rollout, after their prompts."""
        device, batch = rollout.tokens.device, rollout.batch
        numbers = [row // batch.samples_per_prompt for row in rows.tolist()]
        distinct = list(dict.fromkeys(numbers))
        prompts = cls.of_prompts([batch.prompts[number] for number in distinct], shared_by, dtype, device)
        parents = torch.tensor([distinct.index(number) for number in numbers], device=device)
        completions = Level.of(rollout.lengths[rows] - 1, prompts.levels[-1], parents, shared_by, dtype)
        tokens = rollout.tokens[rows][:, : completions.texts.width][completions.texts.mask]
        return cls(torch.cat([prompts.tokens, tokens]), (*prompts.levels, completions))

    @property
    def positions(self) -> Tensor:
        """int64 [n]: positions, from 0 at the beginning of each prompt."""
        return torch.cat([level.positions for level in self.levels])

    def ends(self, number: int) -> Tensor:
        """int64 [R]: the index in `tokens` of the last token of each text of level `number`."""
        above = sum(level.texts.size for level in self.levels[:number])
        return above + self.levels[number].texts.lengths.cumsum(0) - 1

    @property
    def predictors(self) -> Tensor:
        """int64 [N]: for each token of the completions, the last included, the index in `tokens` that predicts it."""
        completions, device = self.levels[-1], self.tokens.device
        texts, count = completions.texts, len(self.tokens)
        numbered = texts.pad(torch.arange(count - texts.size, count, device=device))
        before = torch.cat([self.ends(-2)[completions.parents].unsqueeze(1), numbered], 1)
        return before[torch.arange(texts.width + 1, device=device) <= texts.lengths.unsqueeze(1)]

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attention of every token to the tokens before it: query [n, h, d], key and value [n, g, d] -> [n, h d].

        Computed in the masks' dtype. Also returns the keys and values visible to the last level, [R, g, S, d].
        """
        sizes = [level.texts.size for level in self.levels]
        dtype, outputs = query.dtype, []
        states = (x.to(self.levels[0].mask.dtype).split(sizes) for x in (query, key, value))
        for level, *packed in zip(self.levels, *states, strict=True):
            q, *own = map(level.texts.pad, packed)
            if level.parents is None:
                keys, values = own
            else:
                keys, values = (
                    torch.cat([take_rows(x, level.parents), y], 1) for x, y in zip((keys, values), own, strict=True)
                )
            output = attention(q, keys.transpose(1, 2), values.transpose(1, 2), level.mask)
            outputs.append(level.texts.pack(output))
        return torch.cat(outputs).to(dtype), keys.transpose(1, 2), values.transpose(1, 2)


def arrange(texts: Sequence[Sequence[int]], shared: int) -> list[int]:
    """The beginning that all texts share, of `shared` items, then the rest of each text."""
    return [item for text in (texts[0][:shared], *(text[shared:] for text in texts)) for item in text]


def shared_prefix_length(texts: Sequence[Sequence[int]]) -> int:
    """Number of tokens that all prompts begin with; 0 for a single prompt.

    Every prompt keeps at least its last token for itself: it predicts the completions' first tokens.
    """
    columns = zip(*(text[:-1] for text in texts), strict=False)
    return len(list(takewhile(lambda column: len(set(column)) == 1, columns))) if len(texts) > 1 else 0
