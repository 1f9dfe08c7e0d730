"""DPO, direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290, equation 7).

    r_y  = beta (log pi(y | x) - log pi_ref(y | x))
    loss = -log sigmoid(r_chosen - r_rejected)

the mean over the pairs of a step. The reference is the same weights with the adapter switched off.
`label_smoothing` = e takes a preference to be wrong with probability e (conservative DPO,
https://ericmitchell.ai/cdpo.pdf): it weighs the other side by e, and bounds the margin that is learnt.
Votes on both sides and ties weigh as in `pairwise`. A row's `margin` is not used: the paper has none.

Deviations from the paper: none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rlhf_cli.supervised.objectives.objective import Batch, Reading
from rlhf_cli.supervised.objectives.pairwise import Pairwise, pair_loss

if TYPE_CHECKING:
    from torch import Tensor

    from rlhf_cli.engine import Engine


class Dpo(Pairwise):
    """Raise chosen completions above rejected ones, measured from the reference."""

    kind: Literal["dpo"]
    beta: float = Field(gt=0, le=1e9)
    """Scales the implicit reward, per nat: the larger, the closer the policy stays to the reference."""
    label_smoothing: float = Field(ge=0, lt=0.5)
    """The share of preferences that are taken to be wrong; 0: none."""

    def read(self, batch: Batch, examples: Tensor, engine: Engine) -> Reading:
        """The loss of each pair, and the implicit rewards r of both sides."""
        import torch

        rows = batch.rows(examples)
        logprobs = sequence_logprobs(batch, rows, engine)
        with torch.no_grad():
            ref_logprobs = sequence_logprobs(batch, rows, engine, reference=True)
        rewards = (self.beta * (logprobs - ref_logprobs)).view(-1, 2)
        shares = batch.shares[examples].to(rewards.device)
        return Reading(
            dpo_loss(rewards[:, 0] - rewards[:, 1], shares, self.label_smoothing),
            {"chosen": rewards[:, 0].detach(), "rejected": rewards[:, 1].detach(), "share": shares},
        )


def sequence_logprobs(batch: Batch, rows: Tensor, engine: Engine, *, reference: bool = False) -> Tensor:
    """log pi(y | x) of the completions `rows`: float32 [b], nats."""
    from rlhf_cli.engine.reading import read_logprobs

    hidden = engine.hidden(batch.rollout, rows, reference=reference)
    return read_logprobs(batch.rollout, rows, hidden, engine.head).sum(1)


def dpo_loss(margins: Tensor, shares: Tensor, label_smoothing: float) -> Tensor:
    """The loss of each pair from r_chosen - r_rejected and the share of votes for chosen, all [e].

    With q votes for chosen, of which a share e is wrong, chosen is right with q (1 - e) + (1 - q) e.
    """
    right = shares * (1 - label_smoothing) + (1 - shares) * label_smoothing
    return pair_loss(margins, -margins, right)
