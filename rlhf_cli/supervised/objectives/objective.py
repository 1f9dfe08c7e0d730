"""The base of all objectives: everything that the loop and the evaluation ask of one.

This module and its neighbours import torch only for its types, or within a function: validating a config must not load
torch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rlhf_cli.evaluation.intervals import Interval, estimate
from rlhf_cli.settings import Settings
from rlhf_cli.types import Rollout

if TYPE_CHECKING:
    from torch import Tensor

    from rlhf_cli.engine import Engine

Columns = Mapping[str, Sequence[float]]
"""Figures by name, one value an example."""


@dataclass(frozen=True, slots=True)
class Batch:
    """E examples: each with as many fixed completions as the objective compares."""

    rollout: Rollout
    """The completions; those of example e are the rows from e * each on. They come from the data: the `logprobs` are
    zero, and `hidden` has no width."""
    each: int
    """Completions of an example."""
    shares: Tensor
    """float32 [E]: the share of votes for the first completion; 1/2 is a tie. 1 where there is one completion."""
    margins: Tensor
    """float32 [E]: by how much the first completion is known to be better; 0 where nothing is known."""

    def __len__(self) -> int:
        return len(self.shares)

    def rows(self, examples: Tensor) -> Tensor:
        """The rows of `examples`, int64 [e]: int64 [e * each]."""
        import torch

        return (examples.unsqueeze(1) * self.each + torch.arange(self.each)).flatten()


@dataclass(frozen=True, slots=True)
class Reading:
    """Some examples of a batch, as the model reads them."""

    losses: Tensor
    """[e]: the loss of each example; it carries the gradient."""
    columns: Mapping[str, Tensor]
    """[e] each: other figures of the examples."""


class Objective(Settings):
    """A loss of examples, and the figures that are measured beside it."""

    completions: ClassVar[int]
    """Completions of each example."""
    scores: ClassVar[bool] = False
    """Whether a linear head scores the whole text, so that the policy needs one."""

    @property
    @abstractmethod
    def columns_read(self) -> tuple[str, ...]:
        """The columns of a row with the texts to learn from."""

    @abstractmethod
    def read(self, batch: Batch, examples: Tensor, engine: Engine) -> Reading:
        """Read `examples`, int64 [e], of the batch."""

    @abstractmethod
    def size(self, batch: Batch) -> int:
        """The number that the losses of a whole step are divided by: its tokens or its examples."""

    @abstractmethod
    def figures(self, columns: Columns) -> dict[str, float]:
        """The metrics of a step from the columns of its examples; `loss` is one of them."""

    def judge(self, batch: Batch, examples: Tensor, engine: Engine) -> Reading:
        """Read held-out examples: like `read` without a gradient, perhaps with more columns."""
        import torch

        with torch.no_grad():
            return self.read(batch, examples, engine)

    def held_out_figures(self, columns: Columns) -> dict[str, float]:
        """The metrics of an evaluation: like `figures`, perhaps more."""
        return self.figures(columns)

    @abstractmethod
    def values(self, columns: Columns) -> dict[str, list[float]]:
        """The values of some figures, one an example, whose mean is the figure: for intervals and paired changes."""

    def intervals(self, columns: Columns) -> dict[str, Interval]:
        """The figures of `values`, each with its interval over examples; a figure of one value has none."""
        return {name: Interval.of(estimate(own)) for name, own in self.values(columns).items() if len(own) > 1}
