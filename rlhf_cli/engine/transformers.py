"""The engine of any causal language model of the transformers library: its own forward pass, our decode loop."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer

from rlhf_cli.engine.decoding import Reader, decode
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.policy import Policy
from rlhf_cli.types import PromptBatch, Rollout, Tick, Watch


class TransformersEngine:
    """The `Engine` of all other models: it reads prompt and completion in one pass."""

    name = "transformers"
    invariant = False

    def __init__(self, policy: Policy, *, recompute: bool = False) -> None:
        """`recompute`: keep only the blocks' inputs for the backward pass and compute the rest again."""
        self.policy = policy
        self._recomputed_blocks = blocks(policy) if recompute else ()
        self.forward: Callable[..., Tensor] = partial(_final_states, policy.causal.base_model)
        """The decoder: its inputs -> hidden states [b, t, H]. Another one may run the same layers."""
        named = inspect.signature(policy.causal.base_model.forward).parameters
        self._cache_argument = "cache" if "cache" in named else "past_key_values"  # its name since transformers 5.24
        self._output = policy.causal.get_output_embeddings()
        of = partial(getattr, policy.causal.config.get_text_config())
        self._scale = (of("logit_scale", 0) or 1) * (of("lm_head_multiplier", 0) or 1) / (of("logits_scaling", 0) or 1)
        """Cohere, Falcon-H1 and Granite multiply or divide their logits by a number."""
        self._softcap: float | None = of("final_logit_softcapping", None)

    def head(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self._output(hidden)
        if self._scale != 1:
            logits = logits * self._scale
        return logits if self._softcap is None else torch.tanh(logits / self._softcap) * self._softcap

    def reference_head(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)

    @torch.no_grad()
    def sample(
        self,
        batch: PromptBatch,
        sampling: Sampling,
        tick: Tick,
        *,
        reference: bool = False,
        watch: Watch | None = None,
    ) -> Rollout:
        reader = _Reader(self, batch.samples_per_prompt)
        with self.policy.reference() if reference else nullcontext():
            hidden = reader.begin([prompt.tokens for prompt in batch.prompts])
            return decode(reader, hidden, self.head, self.policy, batch, sampling, tick, watch)

    @torch.no_grad()
    def begin(self, batch: PromptBatch, sampling: Sampling, *, reference: bool) -> tuple[Reader, Tensor]:
        """Read the prompts; returns what reads on, and the hidden states [B, H] that predict the first tokens."""
        reader = (_ReferenceReader if reference else _Reader)(self, batch.samples_per_prompt)
        return reader, reader.begin([prompt.tokens for prompt in batch.prompts])

    def values(self, hidden: Tensor) -> Tensor:
        return self.policy.values(hidden)

    def hidden(self, rollout: Rollout, rows: Tensor, *, reference: bool = False) -> Tensor:
        device, batch = self.policy.device, rollout.batch
        prompts = [batch.prompt_of(row).tokens for row in rows.tolist()]
        tokens, mask, lengths = rollout.tokens[rows], rollout.completion_mask[rows], rollout.lengths[rows]
        starts = torch.tensor([len(prompt) for prompt in prompts], device=device)
        width = int((starts + lengths).max())
        ids = torch.full((len(prompts), width), self.policy.pad_token, device=device)
        predicts = torch.zeros(len(prompts), width, dtype=torch.bool, device=device)  # where a completion token is next
        for i, prompt in enumerate(prompts):
            start, length = len(prompt), int(lengths[i])
            ids[i, :start] = torch.tensor(prompt, device=device)
            ids[i, start : start + length] = tokens[i][mask[i]]
            predicts[i, start - 1 : start + length - 1] = True
        attention = (torch.arange(width, device=device) < (starts + lengths)[:, None]).long()
        positions = torch.arange(width, device=device).expand_as(ids)
        with self.policy.reference() if reference else nullcontext(), self._recompute():
            return self.read(ids, attention, positions, cache=None)[predicts]

    @contextmanager
    def _recompute(self) -> Iterator[None]:
        """Inside, a pass recomputes its blocks. The library would do so in training mode alone, with dropout."""
        for block in self._recomputed_blocks:
            vars(block)["forward"] = partial(checkpoint, block.forward, use_reentrant=False)
        try:
            yield
        finally:
            for block in self._recomputed_blocks:
                del vars(block)["forward"]  # the class has its own

    def read(
        self,
        ids: Tensor,
        attention: Tensor,
        positions: Tensor,
        cache: DynamicCache | None,
        forward: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """Final hidden states [b, t, H] of tokens [b, t]; attention [b, past + t] is 1 for real tokens.

        `forward` is the decoder to take; None: its own.
        """
        return (forward or self.forward)(
            input_ids=ids,
            attention_mask=attention,
            position_ids=positions,
            use_cache=cache is not None,
            **{self._cache_argument: cache},
        )

    def read_one(self, forward: Callable[..., Tensor]) -> Tensor:
        """Hidden states of one token, whichever, by this decoder."""
        one = torch.zeros(1, 1, dtype=torch.long, device=self.policy.device)
        with self._recompute():
            return self.read(one, one + 1, one, None, forward)


def _final_states(decoder: nn.Module, **inputs: object) -> Tensor:
    states: Tensor = decoder(**inputs).last_hidden_state
    return states


def blocks(policy: Policy) -> tuple[GradientCheckpointingLayer, ...]:
    """The layers of the model, as the library marks them; one inside of another is a part of it."""
    found = dict[nn.Module, None]()
    for module in policy.causal.modules():  # the outer ones come first
        if isinstance(module, GradientCheckpointingLayer) and not any(module in outer.modules() for outer in found):
            found[module] = None
    return tuple(found)


class _Reader:
    """The `Reader` on the library's own cache."""

    def __init__(self, engine: TransformersEngine, samples_per_prompt: int) -> None:
        self._engine, self._copies = engine, samples_per_prompt
        self._cache = DynamicCache(config=engine.policy.causal.config)

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read each prompt once and copy its cache to its completions; returns the hidden states [B, H] at the ends."""
        ids, attention, lengths = self._left_padded(prompts)
        positions = (torch.arange(ids.shape[1], device=ids.device) - (ids.shape[1] - lengths)[:, None]).clamp(min=0)
        hidden = self._engine.read(ids, attention, positions, self._cache)[:, -1]
        rows = torch.arange(len(prompts), device=ids.device).repeat_interleave(self._copies)
        self._attention, self._positions = attention, lengths
        self.keep(rows)
        return hidden[rows]

    def read(self, tokens: Tensor) -> Tensor:
        self._attention = torch.nn.functional.pad(self._attention, (0, 1), value=1)
        hidden = self._engine.read(tokens[:, None], self._attention, self._positions[:, None], self._cache)[:, -1]
        self._positions = self._positions + 1
        return hidden

    def keep(self, rows: Tensor) -> None:
        self._attention, self._positions = self._attention[rows], self._positions[rows]
        self._cache.reorder_cache(rows)  # as for a beam search: it selects states too, which are no keys and values

    def _left_padded(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Ids and attention [P, longest], and lengths [P]; the last column holds every prompt's last token."""
        policy = self._engine.policy
        longest, device = max(map(len, prompts)), policy.device
        ids = torch.full((len(prompts), longest), policy.pad_token, device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        for row, prompt in zip(ids, prompts, strict=True):
            row[longest - len(prompt) :] = torch.tensor(prompt, device=device)
        attention = (torch.arange(longest, device=device) >= (longest - lengths)[:, None]).long()
        return ids, attention, lengths


class _ReferenceReader(_Reader):
    """A `_Reader` that switches the adapter off for itself: the policy may read beside it."""

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        with self._engine.policy.reference():
            return super().begin(prompts)

    def read(self, tokens: Tensor) -> Tensor:
        with self._engine.policy.reference():
            return super().read(tokens)
