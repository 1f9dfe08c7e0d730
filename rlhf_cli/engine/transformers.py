"""The engine for any causal language model of the transformers library: its own forward pass, our decode loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Final

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from rlhf_cli.errors import UserError
from rlhf_cli.functional.logprobs import log_softmax
from rlhf_cli.functional.sampling import greedy, inverse_cdf
from rlhf_cli.functional.truncation import NO_TRUNCATION, Truncation, joined, kept, packed, selected
from rlhf_cli.models.policy import Policy
from rlhf_cli.seeding import uniforms
from rlhf_cli.types import KeptSets, PromptBatch, Rollout

HEAD_TOLERANCE: Final = 1e-2
"""Largest difference between our logits and the model's own, relative to the largest logit; bfloat16 rounds at 4e-3."""


class TransformersEngine:
    """Samples with a key-value cache, and reads prompt and completion in one pass where gradients are wanted."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._decoder = policy.causal.base_model
        self._output = policy.causal.get_output_embeddings()
        self._softcap: float | None = getattr(policy.causal.config.get_text_config(), "final_logit_softcapping", None)
        self._check_head()

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] of hidden states [N, H]."""
        logits: Tensor = self._output(hidden)
        return logits if self._softcap is None else torch.tanh(logits / self._softcap) * self._softcap

    @torch.no_grad()
    def sample(
        self,
        batch: PromptBatch,
        max_new_tokens: int,
        temperature: float,
        tick: Callable[[], None],
        truncation: Truncation = NO_TRUNCATION,
    ) -> Rollout:
        """Write a completion for every seed of the batch, calling `tick` after every token.

        Temperature 0 is greedy; truncation changes nothing there.

        Each prompt is read once and its cache shared out to its samples; a finished completion leaves the batch.
        """
        device, ends = self.policy.device, torch.tensor(self.policy.end_tokens, device=self.policy.device)
        uniform = uniforms(batch.seeds, max_new_tokens).to(device)
        cache = DynamicCache(config=self.policy.causal.config)
        ids, attention, lengths = self._left_padded([prompt.tokens for prompt in batch.prompts])
        positions = (torch.arange(ids.shape[1], device=device) - (ids.shape[1] - lengths)[:, None]).clamp(min=0)
        hidden = self._read(ids, attention, positions, cache)[:, -1]

        hidden, attention, lengths = (
            t.repeat_interleave(batch.samples_per_prompt, 0) for t in (hidden, attention, lengths)
        )
        cache.batch_repeat_interleave(batch.samples_per_prompt)
        tokens = torch.full((len(batch), max_new_tokens), self.policy.pad_token, device=device)
        logprobs = torch.zeros(len(batch), max_new_tokens, device=device)
        states = torch.zeros(len(batch), max_new_tokens, hidden.shape[-1], dtype=hidden.dtype, device=device)
        completion_lengths = torch.zeros(len(batch), dtype=torch.long, device=device)
        writing = torch.arange(len(batch), device=device)  # the rows that have not ended, in order
        sets: list[tuple[Tensor, KeptSets]] = []  # a token at a time: rows, and what each could be sampled from
        for t in range(max_new_tokens):
            logits, keep = self.head(hidden), None
            if truncation.active and temperature:
                keep = kept(log_softmax(logits, temperature), truncation.top_k, truncation.top_p, truncation.min_p)
                sets.append((writing, packed(keep)))
            chosen, logprob = (
                inverse_cdf(logits, uniform[writing, t], temperature, keep) if temperature else greedy(logits)
            )
            tokens[writing, t], logprobs[writing, t], states[writing, t] = chosen, logprob, hidden
            completion_lengths[writing] = t + 1
            tick()
            going = (~torch.isin(chosen, ends)).nonzero().squeeze(1)
            if t + 1 == max_new_tokens:
                writing = writing[going]
                break
            if len(going) < len(writing):
                writing, chosen, attention = writing[going], chosen[going], attention[going]
                cache.batch_select_indices(going)
            if len(writing) == 0:
                break
            attention = torch.nn.functional.pad(attention, (0, 1), value=1)
            hidden = self._read(chosen[:, None], attention, (lengths[writing] + t)[:, None], cache)[:, -1]

        longest = int(completion_lengths.max())
        mask = torch.arange(longest, device=device) < completion_lengths[:, None]
        truncated = torch.zeros(len(batch), dtype=torch.bool, device=device)
        truncated[writing] = True
        tokens = tokens[:, :longest]
        texts = tuple(self.policy.decode(row[keep].tolist()) for row, keep in zip(tokens, mask, strict=True))
        return Rollout(
            batch=batch,
            tokens=tokens,
            completion_mask=mask,
            logprobs=logprobs[:, :longest],
            hidden=states[:, :longest],
            log_weights=torch.zeros(len(batch), device=device),
            truncated=truncated,
            texts=texts,
            temperature=temperature,
            kept=_row_after_row(sets) if sets else None,
        )

    def values(self, hidden: Tensor) -> Tensor:
        """What the value head expects from the states [N, H] on: float32 [N]; raises ValueError without a head."""
        if self.policy.value_head is None:
            raise ValueError("the policy has no value head")
        values: Tensor = self.policy.value_head(hidden)
        return values

    def hidden(self, rollout: Rollout, rows: Tensor, *, reference: bool = False) -> Tensor:
        """The hidden states [N, H] that predict the N completion tokens of `rows`, row after row, without padding."""
        device, batch = self.policy.device, rollout.batch
        prompts = [batch.prompt_of(row).tokens for row in rows.tolist()]
        tokens, mask, lengths = rollout.tokens[rows], rollout.completion_mask[rows], rollout.lengths[rows]
        starts = torch.tensor([len(prompt) for prompt in prompts], device=device)
        width = int((starts + lengths).max())
        ids = torch.full((len(prompts), width), self.policy.pad_token, device=device)
        predicts = torch.zeros(len(prompts), width, dtype=torch.bool, device=device)  # where the next token counts
        for i, prompt in enumerate(prompts):
            start, length = len(prompt), int(lengths[i])
            ids[i, :start] = torch.tensor(prompt, device=device)
            ids[i, start : start + length] = tokens[i][mask[i]]
            predicts[i, start - 1 : start + length - 1] = True
        attention = (torch.arange(width, device=device) < (starts + lengths)[:, None]).long()
        positions = torch.arange(width, device=device).expand_as(ids)
        with self.policy.reference() if reference else nullcontext():
            return self._read(ids, attention, positions, cache=None)[predicts]

    def _read(self, ids: Tensor, attention: Tensor, positions: Tensor, cache: DynamicCache | None) -> Tensor:
        """Final hidden states [b, t, H] of tokens [b, t]; attention [b, past + t] is 1 for real tokens."""
        output = self._decoder(
            input_ids=ids,
            attention_mask=attention,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        states: Tensor = output.last_hidden_state
        return states

    def _left_padded(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Ids and attention [P, longest], lengths [P]: the last column holds every prompt's last token."""
        longest, device = max(map(len, prompts)), self.policy.device
        ids = torch.full((len(prompts), longest), self.policy.pad_token, device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        for row, prompt in zip(ids, prompts, strict=True):
            row[longest - len(prompt) :] = torch.tensor(prompt, device=device)
        attention = (torch.arange(longest, device=device) >= (longest - lengths)[:, None]).long()
        return ids, attention, lengths

    @torch.no_grad()
    def _check_head(self) -> None:
        """Some architectures rescale their logits after the output layer; the wrong ones would train in silence."""
        if any(parameter.requires_grad for parameter in self._output.parameters()):
            raise UserError(
                "the adapter covers the output layer, which must stay frozen",
                where="model.lora.target_modules",
                fix="leave lm_head out, or use all-linear",
            )
        ids = torch.arange(4, device=self.policy.device)[None]
        own = self.policy.causal(input_ids=ids, use_cache=False).logits.float()
        ours = self.head(self._read(ids, torch.ones_like(ids), torch.arange(4, device=ids.device)[None], None)).float()
        if not (own - ours).abs().max() <= HEAD_TOLERANCE * own.abs().max():  # false for NaN too
            raise UserError(
                f"{self.policy.causal.config.model_type} models change their logits in a way that is not supported",
                where="model.path",
                fix="use a model of another family, such as Llama, Qwen, Mistral or Gemma",
            )


def _row_after_row(sets: Sequence[tuple[Tensor, KeptSets]]) -> KeptSets:
    """The sets of every row's tokens, from those of every token's rows."""
    rows = torch.cat([rows for rows, _ in sets])
    return selected(joined([sets_of_token for _, sets_of_token in sets]), rows.argsort(stable=True))
