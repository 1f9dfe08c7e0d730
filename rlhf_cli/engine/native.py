"""The engine of the Llama family: one decoder for rollout, reference pass and update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf_cli.engine.aligned import Aligned, is_invariant
from rlhf_cli.engine.decoding import Reader, decode
from rlhf_cli.engine.invariance import KEYS, PromptKeys, attend_decoding, round_up
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
        layout = Aligned(tree, llama.shared_by, completions=True) if self.invariant else tree
        states = llama.read(tree.tokens, tree.positions, products, lambda _, *states: layout.attend(*states)[0])
        return llama.norm(take_rows(states, tree.predictors))


class _Cache:
    """The `Reader` of the native engine: keys and values of all tokens read so far, one row per completion.

    A prompt fills the first columns of its rows. The columns behind a shorter prompt stay empty, so that the next token
    of every row goes into the same column.
    """

    def __init__(self, llama: Llama, products: Sequence[Products], recorder: Recorder | None) -> None:
        self._llama, self._recorder = llama, recorder
        self._products = products if recorder is None else recorder.products
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def begin(self, batch: PromptBatch, room: int, device: torch.device) -> Tensor:
        """Read each prompt once, and leave room for `room` tokens of each of its completions.

        Returns the hidden states [B, H] that predict the first tokens.
        """
        llama, copies = self._llama, batch.samples_per_prompt
        self._completions = torch.arange(len(batch))
        tree = TextTree.of_prompts(batch.prompts, llama.shared_by, llama.dtype, device)
        prompts = tree.levels[-1]
        self._positions = (prompts.starts + prompts.texts.lengths).repeat_interleave(copies)
        layout = self._arrange(tree, copies, room)

        def attend(_: int, *states: Tensor) -> Tensor:
            attended, *prompts = layout.attend(*states)
            self._store(*prompts)
            return attended

        states = llama.read(tree.tokens, tree.positions, self._products, attend)
        return llama.norm(states[tree.ends(-1)]).repeat_interleave(copies, 0)

    def _arrange(self, tree: TextTree, copies: int, room: int) -> TextTree | Aligned:
        """Prepare for `copies` completions of each prompt; returns the attention of the prompts."""
        seen = tree.levels[-1].visible
        self._copies, self._width = copies, seen.shape[1]
        visible = torch.ones(len(seen) * copies, 1, self._width + room, dtype=torch.bool, device=seen.device)
        visible[:, 0, : self._width] = seen.repeat_interleave(copies, 0)
        self._mask = fold_mask(visible, self._llama.shared_by, self._llama.dtype)
        return tree

    def _store(self, key: Tensor, value: Tensor) -> None:
        """Add the cache of one more layer: the keys and values of the prompts, [P, g, S, d] each."""
        for caches, prompts in ((self._keys, key), (self._values, value)):
            caches.append(prompts.new_empty(len(self._mask), prompts.shape[1], self._mask.shape[-1], prompts.shape[-1]))
            caches[-1][:, :, : self._width] = prompts.repeat_interleave(self._copies, 0)

    def read(self, tokens: Tensor) -> Tensor:
        self._advance()
        if self._recorder is not None:
            self._recorder.note(self._completions)
        states = self._llama.read(tokens, self._positions, self._products, self._attend)
        self._positions = self._positions + 1
        return self._llama.norm(states)

    def _advance(self) -> None:
        """Make place for one more token of every completion."""
        self._width += 1

    def _attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys, values = self._keys[layer][: len(key)], self._values[layer][: len(key)]
        keys[:, :, self._width - 1], values[:, :, self._width - 1] = key, value
        seen = keys[:, :, : self._width], values[:, :, : self._width]
        return attention(query[:, None], *seen, self._mask[..., : self._width])[:, 0]

    def keep(self, rows: Tensor) -> None:
        self._drop(rows)
        self._mask, self._positions = self._mask[rows], self._positions[rows]
        self._completions = self._completions[rows.cpu()]

    def _drop(self, rows: Tensor) -> None:
        """Keep these rows of the caches."""
        for cache in (*self._keys, *self._values):
            cache[: len(rows), :, : self._width] = cache[rows, :, : self._width]


class _AlignedCache(_Cache):
    """A cache for invariant attention, which is float32.

    The keys of a prompt stand there once for all its completions; those of a completion at their positions in it.
    """

    def _arrange(self, tree: TextTree, copies: int, room: int) -> TextTree | Aligned:
        layout = Aligned(tree, self._llama.shared_by, completions=False)
        self._copies, self._width, self._room = copies, 0, round_up(room, KEYS)
        self._prompts: list[PromptKeys] = []
        seen = torch.arange(layout.width, device=self._positions.device) < self._positions[:, None]
        self._mask = fold_mask(seen[:, None], 1, torch.float32)[:, 0]
        return layout

    def _store(self, key: Tensor, value: Tensor) -> None:
        key, value = key.permute(1, 0, 3, 2).contiguous(), value.transpose(0, 1).contiguous()
        self._prompts.append(PromptKeys(key, value, self._copies))
        groups, prompts, size, _ = key.shape
        rows = prompts * self._copies  # zeros: empty columns go through a product, with a weight of zero
        self._keys.append(key.new_zeros(groups, rows, size, self._room))
        self._values.append(key.new_zeros(groups, rows, self._room, size))

    def _advance(self) -> None:
        super()._advance()
        own = torch.arange(round_up(self._width, KEYS), device=self._mask.device) < self._width
        own = fold_mask(own[None, None], 1, torch.float32)[:, 0].expand(len(self._mask), -1, -1)
        self._step_mask = torch.cat([self._mask, own], -1)

    def _attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        width, keys, values = round_up(self._width, KEYS), self._keys[layer], self._values[layer]
        keys[..., self._width - 1], values[:, :, self._width - 1] = key.transpose(0, 1), value.transpose(0, 1)
        by_group = query.float().unflatten(1, (key.shape[1], -1))
        own = keys[..., :width], values[:, :, :width]
        return attend_decoding(by_group, self._prompts[layer], *own, self._step_mask).flatten(1).to(query.dtype)

    def _drop(self, rows: Tensor) -> None:
        for layer, prompts in enumerate(self._prompts):
            self._prompts[layer] = prompts.keep(rows)
            for caches in (self._keys, self._values):
                caches[layer] = caches[layer].index_select(1, rows)
