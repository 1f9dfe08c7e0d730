"""The toy: one query, six responses that can be listed, a score for each."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from rlhf_cli.demo.problem import Problem
from rlhf_cli.engine.tabular import TabularEngine
from rlhf_cli.functional.logprobs import log_softmax


@dataclass(frozen=True, slots=True)
class Response:
    """A response, its score, and how often the reference gives it."""

    text: str
    score: float
    probability: float


QUERY: Final = "How was the soup?"
RESPONSES: Final = (
    Response("It was fine.", 0.65, 0.34),
    Response("Not bad, thank you.", 0.75, 0.22),
    Response("Delicious, thank you!", 0.9, 0.14),
    Response("Too salty.", 0.3, 0.18),
    Response("Soup.", 0.5, 0.1),
    Response("Great great great!", 1.0, 0.02),
)
"""The last response exploits a weakness of the score: it earns the most, and nobody would say it."""
NAMES: Final = tuple(response.text for response in RESPONSES)
BETA: Final = 0.1
"""A moderate beta for these scores."""


def toy(beta: float) -> Problem:
    """The problem at this beta. At 0, J is the expected reward, and there is no optimum."""
    reference = torch.tensor([response.probability for response in RESPONSES], dtype=torch.float64).log()
    scores = torch.tensor([0.0, *(response.score for response in RESPONSES)], dtype=torch.float64)
    return Problem(reference.view(1, 1, -1), scores.view(1, -1), beta)


def policy_of(logprobs: Tensor) -> TabularEngine:
    """A policy with these log-probabilities [6], beside the usual reference."""
    engine = toy(BETA).engine()
    with torch.no_grad():
        engine.logits.copy_(logprobs.view(1, 1, -1))
    return engine


def probabilities(engine: TabularEngine) -> list[float]:
    """The policy's probability of every response, exactly."""
    return log_softmax(engine.logits.detach().flatten(), 1.0).exp().tolist()


def expected_reward(engine: TabularEngine) -> float:
    """E[r] under the policy, exactly."""
    return float(toy(0.0).objective(engine).detach())
