"""Claims about the value head: generalised advantages, and the first pass of PPO."""

from __future__ import annotations

from dataclasses import replace

import torch
from claims_problem import (
    BETA,
    ROUNDING,
    Claim,
    Found,
    mean,
    of_objective,
    problem,
    run,
    size,
    step_gradients,
    with_algorithm,
    wrong,
)
from torch import Tensor

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.ppo import Ppo
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import Advantages, Scored
from rlhf_cli.verify.exact import Tables
from rlhf_cli.verify.expected import PAST


class WithValues(Ppo):
    """PPO with a table of values, by prompt and state."""

    table: tuple[tuple[float, ...], ...]

    def advantages(self, scored: Scored, past: RunningMean) -> Advantages:
        """Those of PPO with these values."""
        rollout = scored.rollout
        states = torch.zeros_like(rollout.tokens)
        states[:, 1:] = 1 + rollout.tokens[:, :-1]
        values = torch.tensor(self.table[rollout.batch.prompts[0].tokens[0]], dtype=torch.float64)[states]
        return super().advantages(replace(scored, values=values * rollout.completion_mask), past)


def with_values(values: Tensor, gae_lambda: float) -> RunConfig:
    """PPO's first pass with these values, [P, S]."""
    fields = run("ppo", gae_lambda=gae_lambda).algorithm.model_dump()
    table = tuple(tuple(row) for row in values.tolist())
    return with_algorithm(WithValues.model_validate(fields | {"table": table}))


def perfect_values(tables: Tables) -> Tensor:
    """The expected return from each state on, [P, S]."""
    ours, theirs = torch.log_softmax(tables.policy, -1), torch.log_softmax(tables.reference, -1)
    step = -BETA * (ours - theirs)
    second = tables.scores[:, :6].view(-1, 2, 3) + step[:, 1:3]
    after = (ours[:, 1:3].exp() * second).sum(2)
    first = (ours[:, 0].exp() * (step[:, 0] + torch.cat([after, tables.scores[:, 6:]], 1))).sum(1, keepdim=True)
    return torch.cat([first, after, torch.zeros_like(first)], 1)


def gae() -> Found:
    """lambda = 1 and 0.5 with perfect values and with wrong ones."""
    right, true, error = perfect_values(problem()), of_objective(problem()), {}
    for name, values in (("perfect", right), ("wrong", right + torch.linspace(-1, 1, 8).view(2, 4).double())):
        for gae_lambda in (1.0, 0.5):
            found = mean(step_gradients(with_values(values, gae_lambda), problem(), 1))
            error[name, gae_lambda] = wrong(found, true)
    holds = max(error["perfect", 0.5], error["perfect", 1.0], error["wrong", 1.0]) < ROUNDING < error["wrong", 0.5]
    return Found(
        f"off by {size(error['wrong', 1.0])} at lambda = 1 and {size(error['wrong', 0.5])} at 0.5 with wrong values; "
        f"by {size(error['perfect', 0.5])} at 0.5 with perfect ones",
        "holds" if holds else "does not hold",
    )


def first_pass() -> Found:
    """Every step of PPO's first pass beside REINFORCE with the running mean, values of that mean everywhere."""
    constant = torch.full((2, 4), PAST.mean, dtype=torch.float64)
    ours = step_gradients(with_values(constant, 1.0), problem(), 2)
    theirs = step_gradients(run("reinforce", baseline="running"), problem(), 2)
    largest = max(float((a - b).abs().max()) for (_, a), (_, b) in zip(ours, theirs, strict=True))
    return Found(
        f"largest difference of an entry in {len(ours)} steps, values equal to the baseline: {size(largest)}",
        "holds" if largest < ROUNDING else "does not hold",
    )


STEPS = "enumeration of every step"
CLAIMS = (
    Claim("GAE", "GAE is biased only where lambda < 1 and the values are wrong", "1506.02438", STEPS, gae),
    Claim(
        "first pass", "PPO's first pass is the plain policy gradient with a baseline", "2205.09123", STEPS, first_pass
    ),
)
