"""An example as token ids, and the batch of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rlhf_cli.supervised.objectives.objective import Batch
from rlhf_cli.types import Prompt, PromptBatch, Rollout


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with its completions: one to imitate, or a chosen and a rejected one."""

    prompt: Prompt
    completions: tuple[tuple[int, ...], ...]
    """Token ids of each."""
    texts: tuple[str, ...]
    share: float = 1.0
    """As `Batch.shares`."""
    margin: float = 0.0
    """As `Batch.margins`."""

    @property
    def tokens(self) -> int:
        """Tokens of the prompt and its longest completion."""
        return len(self.prompt.tokens) + max(map(len, self.completions))


def make_batch(examples: Sequence[Example], pad: int, device: torch.device) -> Batch:
    """Put the examples into one batch on the device; `pad` fills the rows of shorter completions."""
    rows = [completion for example in examples for completion in example.completions]
    lengths, width = torch.tensor([len(row) for row in rows]), max(map(len, rows))
    tokens = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
    nothing = torch.zeros(len(rows), width, device=device)
    rollout = Rollout(
        batch=PromptBatch(
            tuple(example.prompt for example in examples), len(examples[0].completions), (0,) * len(rows)
        ),
        tokens=tokens.to(device),
        completion_mask=(torch.arange(width) < lengths.unsqueeze(1)).to(device),
        logprobs=nothing,
        hidden=nothing.new_zeros(len(rows), width, 0),
        truncated=torch.zeros(len(rows), dtype=torch.bool, device=device),
        texts=tuple(text for example in examples for text in example.texts),
        temperature=1.0,
        kept=None,
    )
    shares, margins = ([getattr(one, name) for one in examples] for name in ("share", "margin"))
    return Batch(rollout, torch.tensor(shares), torch.tensor(margins))
