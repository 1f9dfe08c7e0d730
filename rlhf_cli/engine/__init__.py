"""One engine for rollout, reference pass and update: it samples completions and turns tokens into hidden states.

opening       a policy on its device, in its dtype, with the engine that runs it
choice        which engine runs a model, checked against the library's logits
reference     the policy and its reference, which may be another model
native        the Llama family by our own forward pass
transformers  any causal language model of the transformers library, by its own forward pass
tabular       tables small enough to list everything they can write
decoding      the decode loop: one token after the other, for all completions at once
blending      decode between the reference and the policy, or beyond it
reading       the trainer's log-probabilities of a rollout, its distance from the reference, its values

llama         the native engine's decoder
invariance    products and attention in which a row's bits depend on the row alone
aligned       the layout of that attention, and whether this machine has it
ragged        batches without padding, shared prefixes read once
trace         the forward pass of a rollout, kept for its first update
kernels       the native engine's operations, with gradients by hand
memory        how many completions fit through the model at once, and the memory of a step
allocator     malloc keeps the memory that a step frees for the next step
cpu           the CPU's vendor, and the threads that other programs leave room for
"""

from typing import Protocol

from torch import Tensor

from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.types import PromptBatch, Rollout, Tick


class Engine(Protocol):
    """The pipeline's view of a model."""

    @property
    def invariant(self) -> bool:
        """Whether a completion's bits depend on no other text and no thread."""

    def sample(self, batch: PromptBatch, sampling: Sampling, tick: Tick, *, reference: bool = False) -> Rollout:
        """Sample a completion for every seed of the batch, from the policy or the reference.

        `tick` is called after every token.
        """

    def hidden(self, rollout: Rollout, rows: Tensor, *, reference: bool = False) -> Tensor:
        """The hidden states [N, H] that predict the N completion tokens of `rows`, row after row, without padding.

        `rows`: int64 indices of completions. From the policy (differentiable) or the reference.
        """

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] of hidden states [N, H] of the policy; the output layer is frozen."""

    def reference_head(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] of hidden states [N, H'] of the reference; the same layer, unless it is another model."""

    def values(self, hidden: Tensor) -> Tensor:
        """The value head's estimates for states [N, H]: float32 [N]; raises ValueError without a head."""
