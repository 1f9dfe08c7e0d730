"""One engine for rollout, reference pass and update: it samples completions and turns tokens into hidden states.

opening       a policy on its device, in its dtype, with the engine that runs it
choice        which engine runs a model, and whether it computes what the library does
native        the Llama family by our own forward pass
transformers  any causal language model of the transformers library, by its own forward pass
tabular       tables small enough to list everything they can write
decoding      THE decode loop: one token after the other, for all completions at once
reading       log-probabilities and hidden states of a rollout, read again; the reference beside it

llama         one block of the native engine, for all its uses
ragged        batches without padding
kernels       the native engine's operations, with gradients by hand
memory        how many completions fit through the model at once, and what a step will need
allocator     malloc keeps what a step frees for the next one
processor     which processor this is
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from rlhf_cli.functional.truncation import NO_TRUNCATION, Truncation
from rlhf_cli.types import PromptBatch, Rollout


class Engine(Protocol):
    """What the pipeline asks of a model."""

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
        """Write a completion for every seed of the batch, calling `tick` after every token.

        By the policy or by the reference. Temperature 0 is greedy; truncation changes nothing there.
        """
        ...

    def hidden(self, rollout: Rollout, rows: Tensor, *, reference: bool = False) -> Tensor:
        """The hidden states [N, H] that predict the N completion tokens of `rows`, row after row, without padding.

        `rows`: int64 indices of completions. By the policy (differentiable), or by the reference.
        """
        ...

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] of hidden states [N, H]; frozen, and the same for policy and reference."""
        ...

    def values(self, hidden: Tensor) -> Tensor:
        """What the value head expects from the states [N, H] on: float32 [N]; raises ValueError without a head."""
        ...
