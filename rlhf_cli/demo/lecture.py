"""The scenes without pictures: the ideas before the first picture, which are read while torch loads, and the tips."""

from typing import Final

from rlhf_cli.demo.scene import Scene

TITLE: Final = "Training a language model from a reward"

OPENING: Final = (
    Scene(
        "1. RLHF",
        (
            "An agent, the language model with parameters θ, is given a query x and writes a response y: together a "
            "rollout. A reward function scores (x, y), and the score trains θ.",
        ),
    ),
    Scene(
        "2. Where PPO sits",
        (
            "Policy-gradient methods are the base. A clipped surrogate objective keeps an update from being drastic. "
            "The KL penalty keeps the new policy near the old one. The advantage function says how much better than "
            "expected a response was. PPO lies where they overlap.",
        ),
    ),
    Scene(
        "3. The objective, built up",
        (
            "r(X, Y) scores pairs; the model is the policy π(Y|X). For one query, sample y and estimate the expected "
            "reward. Over the data set, average over all queries. Then seek the policy that maximises it.",
        ),
        "max over θ of  E_x E_{y ~ π_θ(·|x)} [ r(x, y) ]",
    ),
    Scene(
        "4. The reference model",
        (
            "It enters as a regulariser, so that the policy does not stray too far from the original; β controls how "
            "strongly.",
        ),
        "J(θ) = E_x E_{y ~ π_θ(·|x)} [ r(x, y) ]\n       - β KL( π_θ ‖ π_ref )",
    ),
    Scene(
        "5. The difficulty",
        (
            "θ sits inside the distribution that we sample from, so the expected reward cannot be differentiated "
            "directly through samples.",
        ),
    ),
)

TIPS: Final = Scene(
    "8. Tips for training",
    (
        "Evaluate with human feedback regularly: a score can be fooled, and the sixth response has shown how.",
        "Start from a moderate β.",
        "Raise the temperature to explore more options.",
    ),
    "rlhf train beta=0.05 temperature=1.2",
)
