"""Scene d: the effects of beta and of the temperature."""

from collections.abc import Sequence
from typing import Final

import torch

from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.charts.pictures import Bars, BarSeries, Chart, Series
from rlhf_cli.demo.ascent import ascend
from rlhf_cli.demo.scene import Scene, percent
from rlhf_cli.demo.soup import BETA, NAMES, expected_reward, policy_of, toy
from rlhf_cli.functional.logprobs import log_softmax

BETAS: Final = (0.5, BETA, 0.02)
"""Strong, moderate, weak."""
TRAINED: Final = (0.5, 0.2, BETA, 0.05)
"""Betas that can be learned in a few steps; smaller betas take longer."""
TEMPERATURES: Final = (0.5, 1.0, 2.0)


def scene(fast: bool) -> Scene:
    """Reward against KL for many betas, the policies of three, and three temperatures."""
    steps = 60 if fast else 150
    reference = toy(BETA).engine()
    frontier = [optimum_at(0.01 * 1.2**i) for i in range(31)]
    kls, rewards = [kl for _, kl, _ in frontier], [reward for reward, _, _ in frontier]
    trained = [ascend(Rloo(kind="rloo"), beta, steps, 0) for beta in TRAINED]
    optima = {beta: optimum_at(beta) for beta in BETAS}
    tempered = {t: log_softmax(reference.logits.detach().flatten(), t).exp().tolist() for t in TEMPERATURES}
    return Scene(
        "4, once more: β, and the temperature",
        (
            "β buys reward with distance from the reference. On the curve lie the best policies for every β: no policy "
            "earns more at the same KL. A strong β leaves the policy where it was; a weak one lets it do whatever "
            "the score pays for.",
            "The temperature divides the logits before sampling. Raised, it spreads the samples over more options, "
            "and their entropy H grows; what is never sampled is never learned.",
        ),
        "π*(y) = π_ref(y) exp( r(y) / β ) / Z\nπ_T = softmax( z / T )\nH = - Σ_y π_T(y) log π_T(y)",
        "rlhf_cli/demo/problem.py, rlhf_cli/functional/logprobs.py",
        (
            Chart(
                "Reward against distance from the reference",
                "KL( policy ‖ reference ), nats",
                "expected reward",
                [
                    Series("π* for every β", [*kls, 0.0], [*rewards, expected_reward(reference)]),
                    Series(
                        "trained by RLOO, β = " + ", ".join(f"{beta:g}" for beta in TRAINED),
                        [run.kl for run in trained],
                        [run.reward for run in trained],
                        style="points",
                    ),
                ],
            ),
            Bars(
                "The best policy for three β",
                "probability",
                NAMES,
                [BarSeries(f"β = {beta:g}", policy) for beta, (_, _, policy) in optima.items()],
            ),
            Bars(
                "The reference, sampled at three temperatures",
                "probability",
                NAMES,
                [BarSeries(f"T = {t:g}, H = {entropy(policy):.2f} nats", policy) for t, policy in tempered.items()],
            ),
        ),
        (
            "Best reward and its KL: "
            + ", ".join(f"β = {beta:g}: {reward:.2f} at {kl:.2f} nats" for beta, (reward, kl, _) in optima.items())
            + f". The reference: {expected_reward(reference):.2f}.",
            f"With β = {BETAS[-1]:g}, {percent(optima[BETAS[-1]][2][-1])} of the answers are “{NAMES[-1]}”",
        ),
    )


def optimum_at(beta: float) -> tuple[float, float, list[float]]:
    """Expected reward, KL to the reference in nats, and probabilities of pi* for this beta."""
    logprobs = toy(beta).optimum()
    engine = policy_of(logprobs)
    return expected_reward(engine), toy(beta).kl(engine), logprobs.exp().flatten().tolist()


def entropy(probabilities: Sequence[float]) -> float:
    """Entropy in nats."""
    p = torch.tensor(probabilities, dtype=torch.float64)
    return float(-torch.xlogy(p, p).sum())
