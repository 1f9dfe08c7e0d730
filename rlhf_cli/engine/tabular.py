"""A policy as a table: one row of logits for every prompt and every beginning of a completion.

It goes through the same sampler, scoring, algorithms and update as a language model, in float64, and all its texts can
be listed. The demo, the benchmark of the algorithms and the exact tests run on it.
"""

import torch
from torch import Tensor, nn

from rlhf_cli.engine.reading import read_logprobs, recompute_logprobs
from rlhf_cli.functional.sampling import Sampling, greedy, inverse_cdf
from rlhf_cli.seeding import uniforms
from rlhf_cli.types import Prompt, PromptBatch, PromptRow, Rollout, Tick


class TabularEngine:
    """Tables of P prompts, S states and V tokens.

    State 0 is the empty completion; token v leads from state s to V s + 1 + v, as in a heap. A state that has no row in
    the table is a complete text. The hidden state of a state is its row of logits, followed by its value.
    """

    invariant = False

    def __init__(self, reference: Tensor, end: int | None = None) -> None:
        """`reference` [P, S, V]: the logits of the reference and of the initial policy; `end`: the end token."""
        self.reference = reference.double()
        self.logits = nn.Parameter(self.reference.clone())
        self.state_values = nn.Parameter(torch.zeros(reference.shape[:2], dtype=torch.float64))
        self.end = end
        self.prompts = tuple(
            Prompt(PromptRow(f"prompt {p}", {}, f"table:{p}"), f"prompt {p}", (p,)) for p in range(len(reference))
        )

    @property
    def vocabulary(self) -> int:
        """V, the number of tokens."""
        return self.reference.shape[2]

    def parameters(self) -> dict[str, nn.Parameter]:
        """The trained tables, by name."""
        return {"logits": self.logits, "values": self.state_values}

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] of hidden states [N, V + 1]."""
        return hidden[..., :-1]

    def reference_head(self, hidden: Tensor) -> Tensor:
        """The same as `head`."""
        return self.head(hidden)

    def values(self, hidden: Tensor) -> Tensor:
        """Values [N] of hidden states [N, V + 1]."""
        return hidden[..., -1]

    @torch.no_grad()
    def sample(self, batch: PromptBatch, sampling: Sampling, tick: Tick, *, reference: bool = False) -> Rollout:
        """Sample a completion for every seed of the batch; raises ValueError for a truncation."""
        if sampling.truncation.is_active:
            raise ValueError("a table is sampled from all its tokens")
        temperature = sampling.temperature
        prompts = self._prompts(batch, torch.arange(len(batch)))
        uniform = uniforms(batch.seeds, sampling.max_new_tokens)
        states, active = torch.zeros_like(prompts), torch.ones(len(batch), dtype=torch.bool)
        columns: tuple[list[Tensor], ...] = ([], [], [], [])
        for t in range(sampling.max_new_tokens):
            active = active & (states < self.reference.shape[1])
            if not active.any():
                break
            hidden = self._rows(prompts, states.where(active, 0), reference=reference)
            logits = self.head(hidden)
            tokens, logprobs = inverse_cdf(logits, uniform[:, t], temperature) if temperature else greedy(logits)
            for column, value in zip(columns, (tokens * active, active, logprobs * active, hidden), strict=True):
                column.append(value)
            states = self._follow(states, tokens).where(active, states)
            active = active & (tokens != self.end) if self.end is not None else active
            tick()
        tokens, mask, logprobs, hidden = (torch.stack(column, 1) for column in columns)
        return _rollout(batch, tokens, mask, logprobs, hidden, active & (states < self.reference.shape[1]), temperature)

    def hidden(self, rollout: Rollout, rows: Tensor, *, reference: bool = False) -> Tensor:
        """The hidden states [N, V + 1] that predict the N completion tokens of `rows`, row after row."""
        mask, tokens = rollout.completion_mask[rows], rollout.tokens[rows]
        states = torch.zeros_like(tokens)
        for t in range(1, tokens.shape[1]):
            states[:, t] = self._follow(states[:, t - 1], tokens[:, t - 1])
        prompts = self._prompts(rollout.batch, rows).unsqueeze(1).expand_as(tokens)
        return self._rows(prompts[mask], states[mask], reference=reference)

    def final_states(self, rollout: Rollout) -> Tensor:
        """int64 [B]: the state after each completion's last token, the index of a table of scores."""
        states = torch.zeros(len(rollout.tokens), dtype=torch.long)
        for t in range(rollout.tokens.shape[1]):
            states = self._follow(states, rollout.tokens[:, t]).where(rollout.completion_mask[:, t], states)
        return states

    def all_completions(self, temperature: float = 1.0) -> Rollout:
        """Every completion of every prompt, C per prompt, as one rollout with the policy's log-probabilities."""
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
        tokens, mask, cut = tokens.repeat(count, 1), mask.repeat(count, 1), torch.zeros(len(batch), dtype=torch.bool)
        empty = torch.zeros(len(batch), longest, dtype=torch.float64)
        rollout = _rollout(batch, tokens, mask, empty, empty, cut, temperature)
        return recompute_logprobs(rollout, self, len(batch), lambda: None)[0]

    def sequence_logprobs(self, rollout: Rollout, *, reference: bool = False) -> Tensor:
        """log pi(completion | prompt) of every row, [B]; differentiable."""
        rows = torch.arange(len(rollout.batch))
        return read_logprobs(rollout, rows, self.hidden(rollout, rows, reference=reference), self.head).sum(1)

    def _follow(self, states: Tensor, tokens: Tensor) -> Tensor:
        """The states that the tokens lead to."""
        return self.vocabulary * states + 1 + tokens

    def _rows(self, prompts: Tensor, states: Tensor, *, reference: bool = False) -> Tensor:
        logits = (self.reference if reference else self.logits)[prompts, states]
        return torch.cat([logits, self.state_values[prompts, states].unsqueeze(-1)], -1)

    @staticmethod
    def _prompts(batch: PromptBatch, rows: Tensor) -> Tensor:
        return torch.tensor([batch.prompt_of(row).tokens[0] for row in rows.tolist()])


def _rollout(
    batch: PromptBatch, tokens: Tensor, mask: Tensor, logprobs: Tensor, hidden: Tensor, cut: Tensor, temperature: float
) -> Rollout:
    return Rollout(
        batch=batch,
        tokens=tokens,
        completion_mask=mask,
        logprobs=logprobs,
        hidden=hidden,
        truncated=cut,
        texts=tuple(" ".join(map(str, row[keep].tolist())) for row, keep in zip(tokens, mask, strict=True)),
        temperature=temperature,
        kept=None,
    )
