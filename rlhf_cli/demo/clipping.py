"""Scene c: the clipped surrogate, which allows several updates from one rollout."""

import math
from typing import Final

import torch

from rlhf_cli.algorithms.ppo import Ppo
from rlhf_cli.charts.pictures import Chart, Mark, Series
from rlhf_cli.demo.ascent import SAMPLES, ascend, curve
from rlhf_cli.demo.scene import Scene, percent
from rlhf_cli.demo.soup import BETA, toy
from rlhf_cli.functional.losses import clipped_surrogate
from rlhf_cli.plural import plural

CLIP: Final = 0.2
EPOCHS: Final = (1, 4, 16)


def scene(fast: bool) -> Scene:
    """The surrogate as a function of the ratio, and PPO on the toy by the number of epochs."""
    steps, seeds = (20, 1) if fast else (30, 3)
    ratios = [i / 100 for i in range(201)]
    runs = {epochs: [ascend(ppo(epochs), BETA, steps, seed) for seed in range(seeds)] for epochs in EPOCHS}
    best = toy(BETA).best()
    clipped = {
        epochs: [sum(column) / seeds for column in zip(*(run.clip_fraction for run in of), strict=True)]
        for epochs, of in runs.items()
    }
    closed = {epochs: sum(run.percent for run in of) / seeds for epochs, of in runs.items()}
    return Scene(
        "2, once more: where PPO sits",
        (
            "The trick is one part of PPO, not all of it. Sampling is dear, so PPO takes several updates from each "
            "rollout; with each, the policy leaves the one that wrote the samples, and their ratio leaves 1.",
            "The clipped surrogate keeps an update from being drastic: beyond the clip range, moving further in the "
            "direction of the advantage earns nothing, and there is no gradient. A mistake can still be taken back.",
        ),
        "ratio = π_θ(y|x) / π_old(y|x)\nmin( ratio · A, clip( ratio, 1 - ε, 1 + ε ) · A )",
        "rlhf_cli/functional/losses.py, used by rlhf_cli/algorithms/ppo.py",
        (
            Chart(
                f"The clipped surrogate, ε = {CLIP:g}",
                "ratio of the new to the old probability",
                "surrogate",
                [
                    Series("A = +1, better than expected", ratios, [surrogate(ratio, 1.0) for ratio in ratios]),
                    Series("A = -1, worse than expected", ratios, [surrogate(ratio, -1.0) for ratio in ratios]),
                ],
                marks=(Mark(1 - CLIP, "1 - ε"), Mark(1 + CLIP, "1 + ε")),
            ),
            Chart(
                "PPO on the toy, by updates from each rollout",
                f"rollouts of {SAMPLES} samples",
                "J",
                [
                    *(curve(plural(epochs, "update"), of) for epochs, of in runs.items()),
                    Series("J*", [0, steps], [best, best], style="dashed"),
                ],
            ),
            Chart(
                "How many tokens are clipped",
                "rollout",
                "share of the updates' tokens",
                [Series(plural(epochs, "update"), range(1, steps + 1), shares) for epochs, shares in clipped.items()],
            ),
        ),
        (
            f"Of the way to J*, {steps} rollouts went: "
            + ", ".join(f"{plural(epochs, 'update')} {value:.1f} %" for epochs, value in closed.items())
            + ". Clipped on average: "
            + ", ".join(percent(sum(shares) / steps) for shares in clipped.values())
            + ". The first update of a rollout is never clipped: its ratio is 1.",
        ),
    )


def surrogate(ratio: float, advantage: float) -> float:
    """min(ratio A, clip(ratio) A) of one token, as PPO's loss computes it."""
    log_ratio = math.log(ratio) if ratio > 0 else -math.inf
    new, old, a, weight = (torch.tensor([[x]], dtype=torch.float64) for x in (log_ratio, 0.0, advantage, 1.0))
    loss, _ = clipped_surrogate(new, old, a, weight, CLIP, CLIP)
    return -float(loss)


def ppo(epochs: int) -> Ppo:
    """PPO with whole rollouts as minibatches, `epochs` updates from each."""
    return Ppo(
        kind="ppo",
        clip_range=CLIP,
        vf_coef=0.5,
        value_clip_range=None,
        gamma=1.0,
        gae_lambda=1.0,
        whiten=False,
        aggregation="sum",
        epochs=epochs,
        minibatch_size=None,
    )
