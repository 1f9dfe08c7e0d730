"""An example as token ids, and the batch of several."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rlhf_cli.data.preference import Lesson
from rlhf_cli.supervised.objectives.objective import Batch
from rlhf_cli.types import Prompt, PromptBatch, Rollout


@dataclass(frozen=True, slots=True)
class Example:
    """One completion to imitate, or a chosen and a rejected one, behind their prompt."""

    prompts: tuple[Prompt, ...]
    """The prompt of all completions; or one for each, where two scored texts begin differently."""
    completions: tuple[tuple[int, ...], ...]
    """Token ids of each."""
    lesson: Lesson
    """The texts whose tokens these are."""

    @property
    def prompt(self) -> Prompt:
        """The prompt, of the first completion where each has its own."""
        return self.prompts[0]

    @property
    def longest(self) -> int:
        """Tokens of a prompt and a completion, at most."""
        return max(len(prompt.tokens) for prompt in self.prompts) + max(map(len, self.completions))


def make_batch(examples: Sequence[Example], pad: int, device: torch.device) -> Batch:
    """Put the examples into one batch on the device; `pad` fills the rows of shorter completions."""
    each, shared = len(examples[0].completions), all(len(example.prompts) == 1 for example in examples)
    prompts = [
        prompt
        for example in examples
        for prompt in (example.prompts if shared or len(example.prompts) > 1 else example.prompts * each)
    ]
    rows = [completion for example in examples for completion in example.completions]
    lengths, width = torch.tensor([len(row) for row in rows]), max(map(len, rows))
    tokens = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
    nothing = torch.zeros(len(rows), width, device=device)
    rollout = Rollout(
        batch=PromptBatch(tuple(prompts), each if shared else 1, (0,) * len(rows)),
        tokens=tokens.to(device),
        completion_mask=(torch.arange(width) < lengths.unsqueeze(1)).to(device),
        logprobs=nothing,
        hidden=nothing.new_zeros(len(rows), width, 0),
        truncated=torch.zeros(len(rows), dtype=torch.bool, device=device),
        texts=tuple(text for example in examples for text in example.lesson.texts),
        temperature=1.0,
        kept=None,
    )
    shares, margins = ([getattr(one.lesson, name) for one in examples] for name in ("share", "margin"))
    return Batch(rollout, each, torch.tensor(shares), torch.tensor(margins))
