"""The forward pass of a rollout, kept: what its linear layers gave is not computed again by the first update.

The rollout's weights are those of the first update, and it has read the same tokens. What is kept is the output of each
linear layer, by far the most work of a forward pass; norms, rotations and attention are computed again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf_cli.engine.kernels import Known, Product
from rlhf_cli.engine.llama import Products
from rlhf_cli.engine.ragged import arrange, shared_prefix_length
from rlhf_cli.types import PromptBatch, Rollout


class Recorder:
    """Products that note their outputs, for one rollout."""

    def __init__(self, products: Sequence[Products]) -> None:
        self._outputs: list[list[list[Tensor]]] = [[[] for _ in block] for block in products]
        self.products = [
            Products(*(_noting(product, outputs) for product, outputs in zip(block, noted, strict=True)))
            for block, noted in zip(products, self._outputs, strict=True)
        ]
        self._reads: list[Tensor] = []

    def note(self, rows: Tensor) -> None:
        """Note which completions, int64 [b], were read by one more token each."""
        self._reads.append(rows)

    def trace(self, batch: PromptBatch) -> Trace:
        """The trace of the rollout, which is complete; this recorder then holds nothing."""
        outputs = []
        for block in self._outputs:
            outputs.append([torch.cat(noted) for noted in block])
            block.clear()  # layer by layer: all outputs in two copies would be the peak of the step
        return Trace(batch, self._reads, outputs)


def _noting(product: Product, outputs: list[Tensor]) -> Product:
    def apply(x: Tensor) -> Tensor:
        y = product(x)
        outputs.append(y)
        return y

    return apply


class Trace:
    """The outputs of all linear layers for the tokens of a rollout, and where each token stands in them.

    The prompts come first, as `TextTree.of_prompts` arranges them, then the completions, one decoding step after the
    other.
    """

    def __init__(self, batch: PromptBatch, reads: Sequence[Tensor], outputs: Sequence[Sequence[Tensor]]) -> None:
        """`reads`: the completions of each decoding step. `outputs`: of each block, of each of its layers [N, out]."""
        self._outputs, self._rows = outputs, {seed: row for row, seed in enumerate(batch.seeds)}
        texts = [prompt.tokens for prompt in batch.prompts]
        end = shared = shared_prefix_length(texts)
        self._prompts: list[list[int]] = []
        for text in texts:
            start, end = end, end + len(text) - shared
            self._prompts.append([*range(shared), *range(start, end)])
        self._places = torch.zeros(len(batch), len(reads), dtype=torch.long)
        for column, rows in enumerate(reads):
            self._places[rows.cpu(), column] = torch.arange(end, end + len(rows))
            end += len(rows)

    def holds(self, batch: PromptBatch) -> bool:
        """Whether the batch is the one that was sampled, or some of its prompts."""
        return batch.seeds[0] in self._rows

    def known(self, rollout: Rollout, rows: Tensor) -> list[list[Known]]:
        """The outputs of every layer for the tokens of `TextTree.of(rollout, rows)`, by block and layer.

        `rollout` holds all or some of the prompts that were sampled.
        """
        batch = rollout.batch
        own = [self._rows[batch.seeds[row]] for row in rows.tolist()]
        numbers = list(dict.fromkeys(row // batch.samples_per_prompt for row in own))
        distinct = list(dict.fromkeys(row // batch.samples_per_prompt for row in rows.tolist()))
        shared = shared_prefix_length([batch.prompts[number].tokens for number in distinct])
        prompts = arrange([self._prompts[number] for number in numbers], shared)
        completions = [
            place
            for row, length in zip(own, rollout.lengths[rows].tolist(), strict=True)
            for place in self._places[row, : length - 1].tolist()
        ]
        places = torch.tensor([*prompts, *completions], device=rollout.tokens.device)
        return [[Known(output, places) for output in block] for block in self._outputs]
