"""Preferences: the base of both objectives of pairs, and the loss of a pair by the log-odds that it is won.

A row has a chosen and a rejected completion. Its `share` is the share of votes for the chosen one: with votes on both
sides, or a tie (1/2), the loss is that of each side, weighted by its votes,

    loss = -q log sigmoid(d) - (1 - q) log sigmoid(-d)

with d the log-odds of the chosen one, as the maximum likelihood of the Bradley-Terry law with repeated votes has it.
"""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from rlhf_cli.evaluation.intervals import Interval, Share
from rlhf_cli.evaluation.pairs import pair_accuracy
from rlhf_cli.supervised.objectives.objective import Batch, Columns, Objective

if TYPE_CHECKING:
    from torch import Tensor


class Pairwise(Objective):
    """Learn from pairs of completions."""

    completions: ClassVar[int] = 2

    chosen: str = Field(min_length=1)
    """The column with the better completion: a text, or a list with one message of the assistant."""
    rejected: str = Field(min_length=1)
    """The column with the worse completion."""

    @model_validator(mode="after")
    def _compares_two_columns(self) -> Self:
        if self.chosen == self.rejected:
            raise ValueError(f"chosen and rejected name one column, {self.chosen}")
        return self

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The columns of both completions."""
        return self.chosen, self.rejected

    def size(self, batch: Batch) -> int:
        """The pairs of the step."""
        return len(batch)

    def figures(self, columns: Columns) -> dict[str, float]:
        """Mean loss; share of the pairs in which the model prefers what most votes do; means of both sides.

        Ties of the votes do not count for the share; without any other pair there is none.
        """
        accuracy = self.accuracy(columns)
        return {
            "loss": fmean(columns["loss"]),
            **({"accuracy": accuracy.mean} if accuracy.count else {}),
            "chosen": fmean(columns["chosen"]),
            "rejected": fmean(columns["rejected"]),
            "margin": fmean(differences(columns)),
        }

    def held_out_figures(self, columns: Columns) -> dict[str, float]:
        """Also Wilson's interval of the share."""
        accuracy = self.accuracy(columns)
        ends = {"accuracy_low": accuracy.low, "accuracy_high": accuracy.high} if accuracy.count else {}
        return self.figures(columns) | ends

    def values(self, columns: Columns) -> dict[str, list[float]]:
        """Loss and margin of each pair.

        Not the accuracy: an untrained model ties on every pair, and a change from one half has no spread of its own.
        """
        return {"loss": list(columns["loss"]), "margin": differences(columns)}

    def intervals(self, columns: Columns) -> dict[str, Interval]:
        """Also the accuracy, with Wilson's interval."""
        found, accuracy = super().intervals(columns), self.accuracy(columns)
        return found | ({"accuracy": Interval.of(accuracy)} if accuracy.count else {})

    def accuracy(self, columns: Columns) -> Share:
        """The share of pairs in which the model prefers what most votes do, with its interval."""
        return pair_accuracy(differences(columns), columns["share"])


def differences(columns: Columns) -> list[float]:
    """Chosen minus rejected, a value a pair."""
    return [c - r for c, r in zip(columns["chosen"], columns["rejected"], strict=True)]


def pair_loss(won: Tensor, lost: Tensor, shares: Tensor) -> Tensor:
    """-q log sigmoid(won) - (1 - q) log sigmoid(lost): log-odds of each side [e], shares q [e] -> [e]."""
    from torch.nn.functional import logsigmoid

    return -shares * logsigmoid(won) - (1 - shares) * logsigmoid(lost)
