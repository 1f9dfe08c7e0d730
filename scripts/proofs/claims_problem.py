"""What the claims share: a small problem, its listed completions, and the gradients of every step there can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rlhf_cli.config.jobs import compose_config
from rlhf_cli.rewards.shaping import Spread
from rlhf_cli.schema import RunConfig
from rlhf_cli.verify import expected
from rlhf_cli.verify.causes import change
from rlhf_cli.verify.exact import Tables, Target, gradient
from rlhf_cli.verify.gradient import compared, small_problem

BETA = 0.3
ROUNDING = 1e-6
"""Largest error that is none: scores are rounded to float32 on their way."""


@dataclass(frozen=True)
class Found:
    """The outcome of one claim."""

    figures: str
    """What was found, with its numbers."""
    verdict: str
    """holds | does not hold | holds only if ..."""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, and the function that decides it."""

    name: str
    text: str
    paper: str
    """Its arXiv number, or where else it stands."""
    how: str
    decide: Callable[[], Found]


@cache
def plain() -> RunConfig:
    """Steps of one prompt and completions of at most two tokens; beta and temperature are given apart."""
    composed = compose_config(["config=tiny", "algorithm=rloo", "kl=reward"])
    return change(composed, {"max_new_tokens": 2, "prompts_per_step": 1, "samples_per_prompt": 3})


def run(kind: str, **changes: Any) -> RunConfig:
    """The plain run with another algorithm; the changes are fields of it, or `kl`."""
    fields: dict[str, dict[str, Any]] = {
        "rloo": {},
        "reinforce": {"baseline": "none"},
        "grpo": {"scale_by_std": False, "clip_range": 0.2, "clip_range_high": 0.2, "aggregation": "sum"},
        "ppo": {"clip_range": 0.2, "vf_coef": 0.0, "shared_trunk": False, "value_clip_range": None, "gamma": 1.0}
        | {"gae_lambda": 1.0, "whiten": False, "aggregation": "sum"},
    }
    several = {"epochs": 1, "minibatch_size": None} if kind in ("grpo", "ppo") else {}
    kl = changes.pop("kl", "reward")
    return change(plain(), {"kl": kl, "algorithm": {"kind": kind} | fields[kind] | several | changes})


def with_algorithm(algorithm: Any) -> RunConfig:
    """The plain run with an algorithm that the tool does not have."""
    return run("rloo").model_copy(update={"algorithm": algorithm})


def target(beta: float = BETA, temperature: float = 1.0) -> Target:
    """J without any shaping."""
    return Target(beta, temperature, None, 1.0, 0.0, None, 0.0, 0.0, False)


@cache
def problem() -> Tables:
    """Two prompts with seven completions each; the second one's scores are three times as far apart."""
    return small_problem(plain())


def step_gradients(
    config: RunConfig, tables: Tables, group: int, beta: float = BETA, temperature: float = 1.0
) -> list[tuple[float, Tensor]]:
    """Every step there can be: its probability, and minus the gradient of its loss by the training code, [P, S, V]."""
    engine = expected.SmallPolicy(tables, shared_trunk=False)
    everything = expected.list_completions(engine, config, temperature)
    scores, found = tables.scores.flatten().tolist(), []
    for probability, rows in expected.every_step(everything.logprobs.sum(1).exp(), len(engine.prompts), group):
        rollout = expected.take(everything, rows)
        scored = expected.score_step(config, engine, rollout, [scores[row] for row in rows], beta, Spread())
        advantages = config.algorithm.advantages(scored, expected.PAST)
        found.append((probability, expected.gradient_of(config, engine, advantages)))
    return found


def mean(steps: list[tuple[float, Tensor]]) -> Tensor:
    """The expected gradient."""
    return sum((chance * found for chance, found in steps), torch.zeros_like(steps[0][1]))


def variance(steps: list[tuple[float, Tensor]]) -> float:
    """The variance of the gradient, summed over its entries."""
    centre = mean(steps)
    return sum(chance * float((found - centre).square().sum()) for chance, found in steps)


def size(value: float, digits: int = 2) -> str:
    """A size in words; rounding errors, which differ from machine to machine, are 0."""
    return "0" if abs(value) < ROUNDING else f"{value:.{digits}f}"


def percent(value: float, digits: int = 0) -> str:
    """A share of one in percent."""
    return f"{100 * value:.{digits}f} %"


def off(found: Tensor, true: Tensor) -> float:
    """The distance between both directions."""
    return compared(found, true).relative_error


def wrong(found: Tensor, true: Tensor) -> float:
    """The length of the error, in lengths of the right gradient."""
    return float((found - true).norm() / true.norm())


def of_objective(tables: Tables, beta: float = BETA, temperature: float = 1.0) -> Tensor:
    """The gradient of J, by the oracle."""
    return gradient(tables, tables.policy, target(beta, temperature))


def of_kl(tables: Tables) -> Tensor:
    """The gradient of KL(policy || reference), averaged over prompts, by the oracle."""
    return -gradient(replace(tables, scores=torch.zeros_like(tables.scores)), tables.policy, target(1.0))


def by_token(tables: Tables, table: Tensor, temperature: float = 1.0) -> Tensor:
    """log-probabilities of every token of every completion, [P, C, L], zero behind the end; differentiable."""
    rows, size = torch.log_softmax(table / temperature, -1), table.shape[2]
    zero = rows.new_zeros(len(rows))
    columns = []
    for text in tables.texts:
        state, tokens = 0, []
        for token in text:
            tokens.append(rows[:, state, token])
            state = size * state + 1 + token
        columns.append(torch.stack(tokens + [zero] * (tables.length - len(text)), 1))
    return torch.stack(columns, 1)


def chances(tables: Tables, table: Tensor, temperature: float = 1.0) -> Tensor:
    """The probability of every completion, [P, C]."""
    return by_token(tables, table, temperature).sum(2).exp()


def differentiate(tables: Tables, function: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of a function of the policy's table [P, S, V], averaged over prompts."""
    table = tables.policy.clone().requires_grad_()
    return torch.autograd.grad(function(table).sum() / len(table), table)[0]


def between(tables: Tables, share: float) -> Tables:
    """The problem with a policy that has gone this share of the way from the reference; 1: the policy itself."""
    return replace(tables, policy=tables.reference + share * (tables.policy - tables.reference))


def optimum(tables: Tables, beta: float = BETA) -> Tensor:
    """The table of pi_ref(y) exp(r / beta) / Z, [P, S, V]."""
    best = torch.softmax(chances(tables, tables.reference).log() + tables.scores / beta, 1)
    first = torch.stack([best[:, 0:3].sum(1), best[:, 3:6].sum(1), best[:, 6]], 1)
    return torch.stack([first, best[:, 0:3], best[:, 3:6], torch.ones_like(first)], 1).log()
