"""The engine for the Llama family: one decoder for rollout, reference pass and update."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlhf_cli.engine.decoding import Texts, decode
from rlhf_cli.engine.kernels import attention, folded, rows_of
from rlhf_cli.engine.llama import Llama, Products
from rlhf_cli.engine.ragged import Scene
from rlhf_cli.functional.truncation import NO_TRUNCATION, Truncation
from rlhf_cli.models.policy import Policy
from rlhf_cli.types import PromptBatch, Rollout


class NativeEngine:
    """Samples with the adapter folded into the weights; reads prompts once for all their completions."""

    name = "native"

    def __init__(self, policy: Policy, *, recompute: bool = False) -> None:
        self.policy = policy
        self._llama = Llama(policy, recompute=recompute)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] of hidden states [N, H]."""
        return self._llama.head(hidden)

    def values(self, hidden: Tensor) -> Tensor:
        """What the value head expects from the states [N, H] on: float32 [N]; raises ValueError without a head."""
        return self.policy.values(hidden)

    @torch.no_grad()
    def sample(
        self,
        batch: PromptBatch,
        max_new_tokens: int,
        temperature: float,
        tick: Callable[[], None],
        truncation: Truncation = NO_TRUNCATION,
        *,
        reference: bool = False,
    ) -> Rollout:
        """Write a completion for every seed of the batch; see `decode`."""
        cache = _Cache(self._llama, self._llama.products("reference" if reference else "merged"))
        hidden = cache.begin(batch, max_new_tokens - 1, self.policy.device)
        texts = Texts(self.policy.end_tokens, self.policy.pad_token, self.policy.decode)
        return decode(cache, hidden, self.head, texts, batch, max_new_tokens, temperature, tick, truncation)

    def hidden(self, rollout: Rollout, rows: Tensor, *, reference: bool = False) -> Tensor:
        """The hidden states [N, H] that predict the N completion tokens of `rows`, row after row, without padding."""
        llama = self._llama
        # attention's backward pass in bfloat16 takes eight times as long as in float32 on a CPU
        dtype = torch.float32 if rollout.tokens.device.type == "cpu" else llama.dtype
        scene = Scene.of(rollout, rows, llama.shared_by, dtype)
        products = llama.products("reference" if reference else "policy")
        states = llama.read(scene.tokens, scene.positions, products, lambda _, *states: scene.attend(*states)[0])
        return llama.norm(rows_of(states, scene.predicting))


class _Cache:
    """Keys and values of everything that was read, a row a completion; see `Reader`.

    A prompt fills the first columns of its rows, and the columns behind a shorter one stay empty, so that the next
    token of every row goes into the same column.
    """

    def __init__(self, llama: Llama, products: Sequence[Products]) -> None:
        self._llama, self._products = llama, products

    def begin(self, batch: PromptBatch, room: int, device: torch.device) -> Tensor:
        """Read each prompt once and share it out to its completions, with `room` tokens to come.

        Returns the hidden states [B, H] that predict the first tokens.
        """
        llama, copies = self._llama, batch.samples_per_prompt
        scene = Scene.of_prompts(batch.prompts, llama.shared_by, llama.dtype, device)
        prompts = scene.tree[-1]
        self._read = prompts.there.shape[1]  # columns that are filled
        shape = (len(batch), llama.groups, self._read + room, llama.head_size)
        self._keys, self._values = (
            [torch.empty(shape, dtype=llama.dtype, device=device) for _ in range(llama.layers)] for _ in range(2)
        )
        seen = torch.ones(len(batch), 1, self._read + room, dtype=torch.bool, device=device)
        seen[:, 0, : self._read] = prompts.there.repeat_interleave(copies, 0)
        self._seen = folded(seen, llama.shared_by, llama.dtype)
        self._positions = (prompts.begin + prompts.texts.lengths).repeat_interleave(copies)

        def attend(layer: int, *states: Tensor) -> Tensor:
            found, key, value = scene.attend(*states)
            for kept, new in ((self._keys[layer], key), (self._values[layer], value)):
                kept[:, :, : self._read] = new.transpose(1, 2).repeat_interleave(copies, 0)
            return found

        states = llama.read(scene.tokens, scene.positions, self._products, attend)
        return llama.norm(states[scene.ends(-1)]).repeat_interleave(copies, 0)

    def read(self, tokens: Tensor) -> Tensor:
        """Read one more token of every text, int64 [b]; the hidden states [b, H] that predict the next ones."""
        rows = len(tokens)
        column, self._read = self._read, self._read + 1
        seen = self._seen[:rows, ..., : self._read]

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys, values = self._keys[layer][:rows], self._values[layer][:rows]
            keys[:, :, column], values[:, :, column] = key, value
            return attention(query[:, None], keys[:, :, : self._read], values[:, :, : self._read], seen)[:, 0]

        states = self._llama.read(tokens, self._positions, self._products, attend)
        self._positions = self._positions + 1
        return self._llama.norm(states)

    def keep(self, rows: Tensor) -> None:
        """Go on with these of the texts, int64 indices in ascending order."""
        for kept in (*self._keys, *self._values):
            kept[: len(rows), :, : self._read] = kept[rows, :, : self._read]
        self._seen, self._positions = self._seen[rows], self._positions[rows]
