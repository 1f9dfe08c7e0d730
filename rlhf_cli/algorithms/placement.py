"""Places for the KL to the reference: one per run, and only those whose gradient is known.

    reward   k1 in the reward, the full return: exactly the gradient of J
    exact    the exact KL of each position, in the reward and as a loss at the visited states: also exactly the gradient
             of J, without a sampled estimator
    loss_k2  k1^2 / 2 as a loss: the KL of each position, but not a token's effect on later positions. Its fixed point
             is not the optimum of J (exact for completions of one token). This holds for REINFORCE and RLOO with one
             update per rollout. GRPO's mean and spread and PPO's whitening rescale the reward beside it, which
             multiplies beta; later updates of a rollout take the KL at tokens of an older policy

    loss_k2_sequence  (sum_t k1)^2 / 2 as a loss, of the whole completion: exactly the gradient of J, since k1 of the
             completion times the gradient of its log-probability is the gradient of the KL. It has no baseline, so that
             it is noisier than `reward`, and it is refused wherever `exact` is, and under reward.truncated=mask

The gradient of KL(policy || reference) over whole texts has two parts: the change of each position's own KL, and the
change of the positions that earlier tokens lead to. All but `loss_k2` contain both.

Tang and Munos 2025, arXiv:2506.09477; Shah et al. 2025, arXiv:2512.21852; Amini et al. 2025, arXiv:2504.10637; k2 of a
completion as a loss, on-policy: Liu et al. 2025, arXiv:2510.01555. Every verdict is proven by enumeration in
tests/unit/algorithms/test_placement.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from rlhf_cli.types import Distance

Placement = Literal["reward", "exact", "loss_k2", "loss_k2_sequence"]

REFUSED: Final[Mapping[str, str]] = {
    "loss_k1": "k1 as a loss has an expected gradient of zero, so it holds nothing (arXiv:2506.09477)",
    "loss_k3": "k3 as a loss follows the KL the other way round, from the reference to the policy (arXiv:2506.09477)",
    "reward_k2": "k2 in the reward is a biased estimate of the KL (joschu.net/blog/kl-approx.html), gradient included",
    "reward_k3": "k3 in the reward lacks a part of the KL's gradient and can point against it (arXiv:2512.21852)",
}
"""Placements that other tools offer, and why each is refused here."""

WHOLLY: Final = ("exact", "loss_k2_sequence")
"""Placements whose loss is the whole gradient of the KL: whatever rescales the reward beside it multiplies beta."""

SELF_INCLUSIVE_MEAN: Final = (
    "a mean that holds the completion itself shrinks the reward's part of the gradient but not the KL loss beside it: "
    "algorithm=rloo, or kl=reward"
)
NOT_EXACT_OFF_POLICY: Final = (
    "its KL loss is exact only for the policy that wrote the completions: algorithm.epochs=1 "
    "algorithm.minibatch_size=null, or kl=reward"
)


def penalty(distance: Distance, placement: Placement) -> Tensor:
    """The KL at each position that goes into the reward, float32 [B, T]: zero where all of it is in the loss."""
    if placement in ("loss_k2", "loss_k2_sequence"):
        return distance.kl.new_zeros(distance.kl.shape)
    if placement == "exact":
        if distance.exact is None:
            raise ValueError("kl=exact needs the exact KL")
        return distance.exact.kl
    return distance.kl
