"""A reward model from preferences: the Bradley-Terry law (1952) on the scores of a linear head.

    loss = -log sigmoid(s_chosen - s_rejected - m) + centre (s_chosen + s_rejected)^2

the mean over the pairs of a step. s = w . h is a linear head, without a bias, on the hidden state of the text's last
token. m is the row's `margin` (Llama 2, arXiv:2307.09288, equation 2), 0 where it has none. The law fixes only
differences of scores; `centre` draws the scores towards zero (Eisenstein et al. 2023, arXiv:2312.09244), so that scores
of different prompts can be compared. Votes on both sides and ties weigh as in `pairwise`:

    -q log sigmoid(s_c - s_r - m) - (1 - q) log sigmoid(s_r - s_c - m)

The text is what `reward=model` reads, token by token, so the scores are the same there. A batch holds it as a
completion with one more token behind its end: the state that would predict that token is the state of the last one.

Deviations from the papers: none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from rlhf_cli.evaluation.pairs import calibration_error, reliability
from rlhf_cli.evaluation.ranks import spearman
from rlhf_cli.supervised.objectives.objective import Batch, Columns, Reading
from rlhf_cli.supervised.objectives.pairwise import Pairwise, differences, pair_loss

if TYPE_CHECKING:
    from torch import Tensor

    from rlhf_cli.engine import Engine


class BradleyTerry(Pairwise):
    """Score texts so that the better of two has the higher score."""

    scores: ClassVar[bool] = True

    kind: Literal["bradley_terry"]
    reads: Literal["auto", "chat", "text", "completion"]
    """The text that is scored, as reward.reads of `reward=model` has it. chat: the conversation by the model's chat
    template; text: prompt and completion as one text; completion: the completion alone. auto: chat where there is a
    template, else text."""
    centre: float = Field(ge=0, le=1e9)
    """Weight of the squared sum of a pair's scores; 0: scores may drift."""

    def read(self, batch: Batch, examples: Tensor, engine: Engine) -> Reading:
        """The loss of each pair, the scores of both sides, and by how many tokens the chosen one is longer."""
        rows = batch.rows(examples)
        hidden = engine.hidden(batch.rollout, rows)
        lengths = batch.rollout.lengths[rows]
        scores = engine.values(hidden[lengths.cumsum(0) - 1]).view(-1, 2)
        shares, margins = (values[examples].to(scores.device) for values in (batch.shares, batch.margins))
        return Reading(
            bradley_terry_loss(scores[:, 0], scores[:, 1], shares, margins, self.centre),
            {
                "chosen": scores[:, 0].detach(),
                "rejected": scores[:, 1].detach(),
                "share": shares,
                "longer": lengths[::2] - lengths[1::2],
            },
        )

    def held_out_figures(self, columns: Columns) -> dict[str, float]:
        """Also the expected calibration error, and how far scores follow lengths.

        `length_correlation` is the rank correlation, over pairs, of the difference of the scores with that of the
        tokens. Each pair counts in both orders: its name for the better side carries nothing.
        """
        figures, scores = super().held_out_figures(columns), differences(columns)
        both = ([*values, *(-value for value in values)] for values in (scores, columns["longer"]))
        return figures | {
            "calibration_error": calibration_error(reliability(scores, columns["share"])),
            "length_correlation": spearman(*both),
        }


def bradley_terry_loss(chosen: Tensor, rejected: Tensor, shares: Tensor, margins: Tensor, centre: float) -> Tensor:
    """The loss of each pair from the scores of both sides, the share of votes for chosen, and the margin, all [e]."""
    difference = chosen - rejected
    return pair_loss(difference - margins, -difference - margins, shares) + centre * (chosen + rejected).square()
