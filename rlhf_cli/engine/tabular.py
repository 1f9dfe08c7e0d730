"""A policy small enough to write down: one row of logits for every prompt and every beginning of a completion.

It goes through the same sampler, scoring, algorithms and update as a language model, in float64, and everything it
can write can be listed. The demo, the benchmark of the algorithms and the exact tests run on it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rlhf_cli.functional.logprobs import token_logprobs
from rlhf_cli.functional.sampling import greedy, inverse_cdf
from rlhf_cli.functional.truncation import NO_TRUNCATION, Truncation
from rlhf_cli.seeding import uniforms
from rlhf_cli.types import Prompt, PromptBatch, PromptRow, Rollout


class TabularEngine:
    """Tables of P prompts, S states and V tokens.

    State 0 is the empty completion; token v leads from state s to V s + 1 + v, as in a heap. What has no row in the
    table is a complete text. Its hidden state is the row of logits, with the state's value behind it.
    """

    def __init__(self, reference: Tensor, end: int | None = None) -> None:
        """`reference` [P, S, V]: the reference's logits, where the policy begins too; `end`: the token that ends."""
        self.reference = reference.double()
        self.logits = nn.Parameter(self.reference.clone())
        self.state_values = nn.Parameter(torch.zeros(reference.shape[:2], dtype=torch.float64))
        self.end = end
        self.prompts = tuple(
            Prompt(PromptRow(f"prompt {p}", {}, f"table:{p}"), f"prompt {p}", (p,)) for p in range(len(reference))
        )

    @property
    def vocabulary(self) -> int:
        """V."""
        return self.reference.shape[2]

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""
        return {"logits": self.logits, "values": self.state_values}

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] of hidden states [N, V + 1]."""
        return hidden[..., :-1]

    def values(self, hidden: Tensor) -> Tensor:
        """Values [N] of hidden states [N, V + 1]."""
        return hidden[..., -1]

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
        """Write a completion for every seed of the batch; temperature 0 is greedy. Truncation is not for tables."""
        if truncation.active:
            raise ValueError("a table is sampled from all its tokens")
        prompts = self._prompts(batch, torch.arange(len(batch)))
        uniform = uniforms(batch.seeds, max_new_tokens)
        states, going = torch.zeros_like(prompts), torch.ones(len(batch), dtype=torch.bool)
        columns: tuple[list[Tensor], ...] = ([], [], [], [])
        for t in range(max_new_tokens):
            going = going & (states < self.reference.shape[1])
            if not going.any():
                break
            hidden = self._rows(prompts, states.where(going, 0), reference=reference)
            logits = self.head(hidden)
            tokens, logprobs = inverse_cdf(logits, uniform[:, t], temperature) if temperature else greedy(logits)
            for column, value in zip(columns, (tokens * going, going, logprobs * going, hidden), strict=True):
                column.append(value)
            states = (self.vocabulary * states + 1 + tokens).where(going, states)
            going = going & (tokens != self.end) if self.end is not None else going
            tick()
        tokens, mask, logprobs, hidden = (torch.stack(column, 1) for column in columns)
        truncated = going & (states < self.reference.shape[1])
        return self._rollout(batch, tokens, mask, logprobs, hidden, truncated=truncated, temperature=temperature)

    def hidden(self, rollout: Rollout, rows: Tensor, *, reference: bool = False) -> Tensor:
        """The hidden states [N, V + 1] that predict the N completion tokens of `rows`, row after row."""
        mask, tokens = rollout.completion_mask[rows], rollout.tokens[rows]
        states = torch.zeros_like(tokens)
        for t in range(1, tokens.shape[1]):
            states[:, t] = self.vocabulary * states[:, t - 1] + 1 + tokens[:, t - 1]
        prompts = self._prompts(rollout.batch, rows).unsqueeze(1).expand_as(tokens)
        return self._rows(prompts[mask], states[mask], reference=reference)

    def ends(self, rollout: Rollout) -> Tensor:
        """The state behind each completion's last token, int64 [B]: what a table of scores is indexed by."""
        states = torch.zeros(len(rollout.tokens), dtype=torch.long)
        for t in range(rollout.tokens.shape[1]):
            states = (self.vocabulary * states + 1 + rollout.tokens[:, t]).where(rollout.completion_mask[:, t], states)
        return states

    def every(self, temperature: float = 1.0) -> Rollout:
        """Every completion of every prompt, C to a prompt, as one rollout with the policy's log-probabilities."""
        texts: list[tuple[int, ...]] = []
        beginnings: list[tuple[tuple[int, ...], int]] = [((), 0)]
        while beginnings:
            text, state = beginnings.pop()
            if state >= self.reference.shape[1] or (self.end is not None and text[-1:] == (self.end,)):
                texts.append(text)
            else:
                beginnings += [((*text, v), self.vocabulary * state + 1 + v) for v in range(self.vocabulary)]
        texts.sort()
        longest = max(map(len, texts))
        tokens = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])
        mask = torch.arange(longest) < torch.tensor([len(text) for text in texts]).unsqueeze(1)
        count = len(self.prompts)
        batch = PromptBatch(self.prompts, len(texts), tuple(range(count * len(texts))))
        empty = torch.zeros(count * len(texts), longest, dtype=torch.float64)
        rollout = self._rollout(
            batch,
            tokens.repeat(count, 1),
            mask.repeat(count, 1),
            empty,
            empty.unsqueeze(2).expand(-1, -1, self.vocabulary + 1).clone(),
            truncated=torch.zeros(len(batch), dtype=torch.bool),
            temperature=temperature,
        )
        with torch.no_grad():
            hidden = self.hidden(rollout, torch.arange(len(batch)))
            rollout.hidden[rollout.completion_mask] = hidden
            rollout.logprobs[rollout.completion_mask] = token_logprobs(
                hidden, rollout.tokens[rollout.completion_mask], self.head, temperature
            )
        return rollout

    def sequence_logprobs(self, rollout: Rollout, *, reference: bool = False) -> Tensor:
        """log pi(completion | prompt) of every row, [B]; differentiable."""
        mask = rollout.completion_mask
        hidden = self.hidden(rollout, torch.arange(len(mask)), reference=reference)
        packed = token_logprobs(hidden, rollout.tokens[mask], self.head, rollout.temperature)
        return packed.new_zeros(mask.shape).masked_scatter(mask, packed).sum(1)

    def _rows(self, prompts: Tensor, states: Tensor, *, reference: bool = False) -> Tensor:
        logits = (self.reference if reference else self.logits)[prompts, states]
        return torch.cat([logits, self.state_values[prompts, states].unsqueeze(-1)], -1)

    @staticmethod
    def _prompts(batch: PromptBatch, rows: Tensor) -> Tensor:
        return torch.tensor([batch.prompt_of(row).tokens[0] for row in rows.tolist()])

    @staticmethod
    def _rollout(
        batch: PromptBatch,
        tokens: Tensor,
        mask: Tensor,
        logprobs: Tensor,
        hidden: Tensor,
        *,
        truncated: Tensor,
        temperature: float,
    ) -> Rollout:
        texts = (" ".join(map(str, row[keep].tolist())) for row, keep in zip(tokens, mask, strict=True))
        return Rollout(
            batch=batch,
            tokens=tokens,
            completion_mask=mask,
            logprobs=logprobs,
            hidden=hidden,
            log_weights=torch.zeros(len(batch), dtype=torch.float64),
            compared=False,
            truncated=truncated,
            texts=tuple(texts),
            temperature=temperature,
            kept=None,
        )
