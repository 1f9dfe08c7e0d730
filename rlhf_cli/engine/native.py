"""The engine of the Llama family: one decoder for rollout, reference pass and update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rlhf_cli.engine.aligned import Aligned, is_invariant
from rlhf_cli.engine.decoding import Reader, decode
from rlhf_cli.engine.invariance import KEYS, LEAST, attend, round_up
from rlhf_cli.engine.kernels import attention, fold_mask, take_rows
from rlhf_cli.engine.llama import Llama, Products
from rlhf_cli.engine.ragged import TextTree
from rlhf_cli.engine.trace import Recorder, Trace
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.policy import Policy
from rlhf_cli.types import PromptBatch, Rollout, Tick, Watch


class NativeEngine:
    """The `Engine` of the Llama family: it samples with the adapter folded into the weights, and reads prompts once."""

    name = "native"

    def __init__(self, policy: Policy, *, recompute: bool = False, invariant: bool = False) -> None:
        """`recompute`: as for `Llama`. `invariant`: a completion's bits depend on no other text and no thread."""
        self.policy, self.invariant = policy, invariant
        self._llama = Llama(policy, recompute=recompute, invariant=invariant)
        self._traces: list[Trace] = []
        self._remembered: int | None = None

    def is_invariant(self) -> bool:
        """Whether the engine's arithmetic is invariant on this machine, by trying it."""
        return is_invariant(self._llama)

    def head(self, hidden: Tensor) -> Tensor:
        return self._llama.head(hidden)

    def reference_head(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)

    def values(self, hidden: Tensor) -> Tensor:
        return self.policy.values(hidden, by_row=self.invariant)

    @torch.no_grad()
    def sample(
        self,
        batch: PromptBatch,
        sampling: Sampling,
        tick: Tick,
        *,
        reference: bool = False,
        watch: Watch | None = None,
        remember: int | None = None,
    ) -> Rollout:
        """Sample as `Engine.sample` says, and keep the forward pass for `reuse` where `remember` is a number.

        Passes of batches with the same number are kept side by side, those of other numbers are forgotten.
        """
        if remember is None or remember != self._remembered:
            self.forget()
        self._remembered = remember
        products = self._llama.products("reference" if reference else "merged")
        recorder = Recorder(products) if remember is not None else None
        cache, hidden = self._begin(batch, sampling, products, recorder)
        rollout = decode(cache, hidden, self.head, self.policy, batch, sampling, tick, watch)
        if recorder is not None:
            self._traces.append(recorder.trace(batch))
        return rollout

    @torch.no_grad()
    def begin(self, batch: PromptBatch, sampling: Sampling, *, reference: bool) -> tuple[Reader, Tensor]:
        """Read the prompts; returns what reads on, and the hidden states [B, H] that predict the first tokens."""
        return self._begin(batch, sampling, self._llama.products("reference" if reference else "merged"), None)

    def _begin(
        self, batch: PromptBatch, sampling: Sampling, products: Sequence[Products], recorder: Recorder | None
    ) -> tuple[_Cache, Tensor]:
        cache = (_AlignedCache if self.invariant else _Cache)(self._llama, products, recorder)
        return cache, cache.begin(batch, sampling.max_new_tokens - 1, self.policy.device)

    def hidden(self, rollout: Rollout, rows: Tensor, *, reference: bool = False) -> Tensor:
        return self._read(rollout, rows, self._llama.products("reference" if reference else "policy"))

    def reuse(self, rollout: Rollout, rows: Tensor) -> Tensor:
        """`hidden` of the policy, with its gradient, from the forward pass that sampled `rollout`.

        Only norms, rotations and attention are computed again. Raises ValueError where the pass was not remembered.
        """
        for trace in self._traces:
            if trace.holds(rollout.batch):
                return self._read(rollout, rows, self._llama.reuse(trace.known(rollout, rows)))
        raise ValueError("the rollout was not remembered")

    def forget(self) -> None:
        """Free the forward passes that were remembered: they are of no use once the weights change."""
        self._traces.clear()

    def _read(self, rollout: Rollout, rows: Tensor, products: Sequence[Products]) -> Tensor:
        llama = self._llama
        # on a CPU attention's backward pass takes eight times as long in bfloat16 as in float32
        dtype = torch.float32 if rollout.tokens.device.type == "cpu" else llama.dtype
        tree = TextTree.of(rollout, rows, llama.shared_by, dtype)
        layout = Aligned(tree, llama.shared_by) if self.invariant else tree
        states = llama.read(tree.tokens, tree.positions, products, lambda _, *states: layout.attend(*states)[0])
        return llama.norm(take_rows(states, tree.predictors))


class _Cache:
    """The `Reader` of the native engine: keys and values of all tokens read so far, one row per completion.

    A prompt fills the first columns of its rows. The columns behind a shorter prompt stay empty, so that the next token
    of every row goes into the same column.
    """

    _attend: Callable[..., Tensor] = staticmethod(torch.nn.functional.scaled_dot_product_attention)
    _reserve: Callable[..., Tensor] = staticmethod(torch.empty)

    def __init__(self, llama: Llama, products: Sequence[Products], recorder: Recorder | None) -> None:
        self._llama, self._recorder, self._dtype = llama, recorder, llama.dtype
        self._products = products if recorder is None else recorder.products

    def begin(self, batch: PromptBatch, room: int, device: torch.device) -> Tensor:
        """Read each prompt once, copy it to its completions and leave room for `room` tokens.

        Returns the hidden states [B, H] that predict the first tokens.
        """
        llama, copies = self._llama, batch.samples_per_prompt
        self._completions = torch.arange(len(batch))
        tree = TextTree.of_prompts(batch.prompts, llama.shared_by, llama.dtype, device)
        prompts = tree.levels[-1]
        self._positions = (prompts.starts + prompts.texts.lengths).repeat_interleave(copies)
        layout = self._arrange(tree, copies, room)
        shape = (len(batch), llama.groups, self._mask.shape[-1], llama.head_size)
        self._keys, self._values = (
            [self._reserve(shape, dtype=self._dtype, device=device) for _ in range(llama.layers)] for _ in range(2)
        )

        def attend(layer: int, *states: Tensor) -> Tensor:
            attended, key, value = layout.attend(*states)
            for cache, new in ((self._keys[layer], key), (self._values[layer], value)):
                cache[:, :, : self._width] = new.repeat_interleave(copies, 0)
            return attended

        states = llama.read(tree.tokens, tree.positions, self._products, attend)
        return llama.norm(states[tree.ends(-1)]).repeat_interleave(copies, 0)

    def _arrange(self, tree: TextTree, copies: int, room: int) -> TextTree | Aligned:
        """Set the number of filled columns, and the mask of all columns; returns the attention of the prompts."""
        seen = tree.levels[-1].visible
        self._width = seen.shape[1]
        visible = torch.ones(len(seen) * copies, 1, self._width + room, dtype=torch.bool, device=seen.device)
        visible[:, 0, : self._width] = seen.repeat_interleave(copies, 0)
        self._mask = fold_mask(visible, self._llama.shared_by, self._llama.dtype)
        return tree

    def _advance(self, rows: int) -> tuple[Any, ...]:
        """Fill one more column of every row; returns its index in the cache."""
        column, self._width = self._width, self._width + 1
        return slice(None), slice(None), column

    def read(self, tokens: Tensor) -> Tensor:
        rows = len(tokens)
        place = self._advance(rows)
        mask = self._mask[:rows, ..., : self._width]

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys, values = self._keys[layer][:rows], self._values[layer][:rows]
            keys[place], values[place] = key.to(self._dtype), value.to(self._dtype)
            seen = keys[:, :, : self._width], values[:, :, : self._width]
            return attention(query[:, None].to(self._dtype), *seen, mask, self._attend)[:, 0].to(query.dtype)

        if self._recorder is not None:
            self._recorder.note(self._completions)
        states = self._llama.read(tokens, self._positions, self._products, attend)
        self._positions = self._positions + 1
        return self._llama.norm(states)

    def keep(self, rows: Tensor) -> None:
        for cache in (*self._keys, *self._values):
            cache[: len(rows), :, : self._width] = cache[rows, :, : self._width]
        self._mask, self._positions = self._mask[rows], self._positions[rows]
        self._completions = self._completions[rows.cpu()]


class _AlignedCache(_Cache):
    """A cache in which every key stands at its position, for invariant attention, which is float32."""

    _reserve = staticmethod(torch.zeros)  # the empty columns go through a product, with a weight of zero

    def __init__(self, llama: Llama, products: Sequence[Products], recorder: Recorder | None) -> None:
        super().__init__(llama, products, recorder)
        self._dtype = torch.float32
        # a bfloat16 that differs in its last digit is 0.4 % off: the trainer would have to read the completions again
        self._attend = partial(attend, least=1 if llama.dtype == torch.float32 else LEAST)

    def _arrange(self, tree: TextTree, copies: int, room: int) -> TextTree | Aligned:
        layout = Aligned(tree, self._llama.shared_by)
        self._width = layout.width
        columns = torch.arange(round_up(int(self._positions.max()) + room, KEYS), device=self._positions.device)
        self._mask = fold_mask((columns < self._positions[:, None])[:, None], 1, torch.float32)
        return layout

    def _advance(self, rows: int) -> tuple[Any, ...]:
        each = torch.arange(rows, device=self._positions.device)
        self._width = round_up(int(self._positions.max()) + 1, KEYS)
        self._mask[each, 0, 0, self._positions] = 0
        return each, slice(None), self._positions
