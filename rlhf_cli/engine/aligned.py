"""The layout of invariant attention: every key stands at its position in its own text, whatever the other texts are.

And whether this machine has the arithmetic of the `invariance` module.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor

from rlhf_cli.engine.invariance import (
    KEYS,
    QUERIES,
    TOKENS,
    PromptKeys,
    attend,
    attend_decoding,
    multiply,
    round_up,
    sum_outer,
)
from rlhf_cli.engine.kernels import attention, fold_mask, is_faster_packed, may_be_packed, take_rows
from rlhf_cli.engine.ragged import Ragged, TextTree

if TYPE_CHECKING:
    from rlhf_cli.engine.llama import Llama
    from rlhf_cli.models.policy import Policy

ROWS: Final = 48
TRIED: Final = (1, 2, 3, 5, 12, 17, ROWS)
"""Numbers of rows that must have the bits that they have among `ROWS` on one thread."""
RANK: Final = 8


class _Layout(NamedTuple):
    """The places of the keys of a level's texts."""

    texts: Ragged
    places: Tensor
    """int64 [R, S]: each key's place among the tokens of the tree."""
    mask: Tensor
    border: int
    """Keys of a completion that are its prompt's; the own ones follow."""


class Aligned:
    """`TextTree.attend` of a tree, invariant: a token's bits depend on the tokens up to it alone."""

    def __init__(self, tree: TextTree, shared_by: int, *, completions: bool) -> None:
        """`shared_by` query heads share a key head. `completions`: whether the last level is one of completions.

        A prompt's keys stand at their positions, those of a completion behind all that its prompt may have: decoding
        reads a prompt's keys once for all its completions.
        """
        device, first = tree.tokens.device, 0
        self._levels: list[_Layout] = []
        for number, level in enumerate(tree.levels):
            texts = Ragged.of(level.texts.lengths, QUERIES)
            border = self.width if completions and number == len(tree.levels) - 1 else 0
            starts = (level.starts if border == 0 else torch.full_like(level.starts, border))[:, None]
            ends = starts + texts.lengths[:, None]
            columns = torch.arange(round_up(int(ends.max()), KEYS), device=device)
            places = columns + first + (texts.lengths.cumsum(0) - texts.lengths)[:, None] - starts
            seen = columns <= (starts + torch.arange(texts.width, device=device))[..., None]
            if level.parents is not None:
                above = self._levels[-1].places[level.parents]
                above = torch.nn.functional.pad(above, (0, max(0, len(columns) - above.shape[1])))
                places = torch.where(columns < starts, above[:, : len(columns)], places)
                seen &= ((columns < level.starts[:, None]) | (columns >= starts))[:, None]
            places = torch.where(columns < ends, places, 0)
            self._levels.append(_Layout(texts, places, fold_mask(seen, shared_by, torch.float32), border))
            first += texts.size

    @property
    def width(self) -> int:
        """Number of keys of each text of the last level."""
        return self._levels[-1].places.shape[1]

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attention of every token to the tokens before it: query [n, h, d], key and value [n, g, d] -> [n, h d].

        Computed in float32. Also returns the keys and values of the texts of the last level, [R, g, S, d].
        """
        groups, dtype = key.shape[1], query.dtype
        keys, values = (x.float().reshape(-1, x.shape[-1]) for x in (key, value))
        outputs = []
        queries = query.float().split([layout.texts.size for layout in self._levels])
        for (texts, places, mask, border), own in zip(self._levels, queries, strict=True):
            rows = places[:, None] * groups + torch.arange(groups, device=places.device)[:, None]
            k, v = (take_rows(x, rows.flatten()).view(*rows.shape, -1) for x in (keys, values))
            outputs.append(texts.pack(attention(texts.pad(own), k, v, mask, partial(attend, border=border))))
        return torch.cat(outputs).to(dtype), k, v


def may_be_invariant(policy: Policy, *, packed: bool) -> bool:
    """Whether to try: on a CPU where packed weights are the faster ones anyway, or may be `packed` for this alone."""
    weight = policy.causal.get_output_embeddings().weight
    return may_be_packed(weight) if packed else is_faster_packed(weight)


@torch.no_grad()
def is_invariant(llama: Llama) -> bool:
    """Whether a row has the same bits in all the decoder's calculations, for any rows and threads, on this machine."""
    threads = torch.get_num_threads()
    try:
        tries = _tries(llama)
        torch.set_num_threads(1)
        alone = [calculate(ROWS) for calculate in tries]
        for number in sorted({-(-threads // 2), threads}):  # a run may go on with fewer; one with more tries them anew
            torch.set_num_threads(number)
            for calculate, expected in zip(tries, alone, strict=True):
                if not all(torch.equal(calculate(rows), expected[:rows]) for rows in TRIED):
                    return False
        return True
    except (AttributeError, RuntimeError, TypeError):  # an operator is not built in, renamed, or has other arguments
        return False
    finally:
        torch.set_num_threads(threads)


def _tries(llama: Llama) -> list[Callable[[int], Tensor]]:
    """Calculations of the first rows of `ROWS`: products both ways, the sum of a weight's gradient, and decoding."""
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    tries: list[Callable[[int], Tensor]] = []
    for layer in (*llama.frozen, llama.head):
        for calculate, width in ((layer, layer.inputs), (layer.backward, layer.outputs)):
            tries.append(partial(_first, calculate, draw(ROWS, width).to(llama.dtype)))
    for width in sorted({width for layer in llama.frozen for width in (layer.inputs, layer.outputs)}):
        x, weight, y = (draw(*shape).to(llama.dtype) for shape in ((ROWS, width), (RANK, width), (2 * TOKENS, width)))
        tries.append(partial(_first, partial(multiply, weight=weight), x))
        tries.append(partial(lambda y, z, rows: sum_outer(z, y)[:rows], y, draw(2 * TOKENS, ROWS).to(llama.dtype)))
    query = draw(ROWS, 2, llama.shared_by, llama.head_size)
    key, value = draw(2, 2, ROWS, llama.head_size, 5 * ROWS), draw(2, 2, ROWS, 5 * ROWS, llama.head_size)
    seen = torch.arange(5 * ROWS) < 5 * torch.arange(1, ROWS + 1)[:, None]
    mask = fold_mask(seen[:, None], 1, torch.float32)[:, 0]

    def decode(rows: int, prompts: int) -> Tensor:
        """Completions of as many or of one prompt, each with another number of keys to see."""
        keys = round_up(5 * rows, KEYS)
        of_prompts = PromptKeys(key[0, :, :prompts, :, :keys], value[0, :, :prompts, :keys], rows // prompts)
        own = key[1, :, :rows, :, :keys], value[1, :, :rows, :keys]
        return attend_decoding(query[:rows], of_prompts, *own, mask[:rows, :, :keys].repeat(1, 1, 2))

    return [*tries, lambda rows: decode(rows, rows), lambda rows: decode(rows, 1)]


def _first(calculate: Callable[[Tensor], Tensor], x: Tensor, rows: int) -> Tensor:
    return calculate(x[:rows])
