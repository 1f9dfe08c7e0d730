"""SFT, supervised fine-tuning: the model imitates the completions of the data.

    loss = -(1 / N) sum_e sum_t log pi(y_et | x_e, y_e,<t)

over the N completion tokens of a step, the end token included; prompts are read and not learned. All tokens weigh
alike, so a long completion counts for more than a short one (`token_mean` of the RL losses). The sum is divided by the
tokens of the whole step, not of a microbatch, so that the gradient does not depend on how a step is cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import Field

from rlhf_cli.evaluation.intervals import Interval, share_of
from rlhf_cli.supervised.objectives.objective import Batch, Columns, Objective, Reading

if TYPE_CHECKING:
    from torch import Tensor

    from rlhf_cli.engine import Engine

LARGEST: Final = 700.0
"""Nats a token beyond which a perplexity would not be finite."""


class Sft(Objective):
    """Imitate the completions."""

    completions: ClassVar[int] = 1

    kind: Literal["sft"]
    completion: str = Field(min_length=1)
    """The column with the completion: a text, or a list with one message of the assistant. Rows that have `messages`
    and no such column end with the assistant's turn, which is the completion."""

    @property
    def columns_read(self) -> tuple[str, ...]:
        """The completion."""
        return (self.completion,)

    def size(self, batch: Batch) -> int:
        """The completion tokens of the step."""
        return int(batch.rollout.completion_mask.sum())

    def read(self, batch: Batch, examples: Tensor, engine: Engine) -> Reading:
        """The summed -log p of each completion, nats."""
        return self._read(batch, examples, engine)[0]

    def judge(self, batch: Batch, examples: Tensor, engine: Engine) -> Reading:
        """Also count the tokens that the model finds the most probable ones."""
        import torch

        from rlhf_cli.engine.reading import unpack
        from rlhf_cli.functional.logprobs import rowwise

        keep = batch.rollout.completion_mask[examples]
        tokens = batch.rollout.tokens[examples][keep]
        with torch.no_grad():
            reading, hidden = self._read(batch, examples, engine)
            hits = rowwise(
                hidden, engine.head, lambda logits, rows, _: ((logits.argmax(-1) == tokens[rows]).float(), None)
            )
        return Reading(reading.losses, {**reading.columns, "hits": unpack(hits, keep).sum(1)})

    def _read(self, batch: Batch, examples: Tensor, engine: Engine) -> tuple[Reading, Tensor]:
        from rlhf_cli.engine.reading import read_logprobs

        hidden = engine.hidden(batch.rollout, examples)
        logprobs = read_logprobs(batch.rollout, examples, hidden, engine.head)
        return Reading(-logprobs.sum(1), {"tokens": batch.rollout.lengths[examples]}), hidden

    def figures(self, columns: Columns) -> dict[str, float]:
        """Loss in nats a token, and the mean length in tokens, the end token included."""
        return {
            "loss": math.fsum(columns["loss"]) / sum(columns["tokens"]),
            "completion/length": sum(columns["tokens"]) / len(columns["tokens"]),
        }

    def held_out_figures(self, columns: Columns) -> dict[str, float]:
        """Also the perplexity, and the share of tokens that are the most probable ones."""
        figures = self.figures(columns)
        return {
            "loss": figures["loss"],
            "perplexity": math.exp(min(figures["loss"], LARGEST)),
            "accuracy": sum(columns["hits"]) / sum(columns["tokens"]),
            "completion/length": figures["completion/length"],
        }

    def values(self, columns: Columns) -> dict[str, list[float]]:
        """Loss and accuracy, both a token."""
        return {
            name: ratio_values(columns[column], columns["tokens"])
            for name, column in (("loss", "loss"), ("accuracy", "hits"))
        }

    def intervals(self, columns: Columns) -> dict[str, Interval]:
        """Also the accuracy by Wilson's interval, as `share_of` has it: its observations are tokens, in rows."""
        found, values = super().intervals(columns), self.values(columns)["accuracy"]
        if "accuracy" in found:
            tokens = sum(columns["tokens"])
            found["accuracy"] = Interval.of(share_of(sum(columns["hits"]) / tokens, values, tokens))
        return found


def ratio_values(sums: Sequence[float], counts: Sequence[float]) -> list[float]:
    """Values with the mean sum(sums) / sum(counts) = r: r + (s_i - r c_i) / mean(c), the ratio linearised at r.

    Their standard error is that of the ratio (Cochran 1977, Sampling Techniques, chapter 6).
    """
    ratio, mean = math.fsum(sums) / sum(counts), sum(counts) / len(counts)
    return [ratio + (s - ratio * c) / mean for s, c in zip(sums, counts, strict=True)]
