"""A policy small enough to list everything it can write, so that expected gradients are sums, not estimates.

Three tokens, two steps; token 2 ends the text, so there are completions of one and of two tokens:
(0,0) (0,1) (0,2) (1,0) (1,1) (1,2) (2). The logits are a table of four rows in float64: for the first token, and for
the second one after token 0, 1 and 2 (never read). The true gradient is worked out here, from the table alone; the
expected gradient of an algorithm goes through the package: scoring, advantages, loss, accumulation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.placement import Placement
from rlhf_cli.engine.reading import recompute_logprobs
from rlhf_cli.engine.tabular import TabularEngine
from rlhf_cli.pipeline.update import accumulate_gradient
from rlhf_cli.types import PromptBatch, Rollout
from tests.unit.support import scored_by

COMPLETIONS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2,)]
MASK = torch.tensor([[True, len(completion) == 2] for completion in COMPLETIONS])
BETA = 0.3
NOTHING = RunningMean()


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SCORES = random(len(COMPLETIONS), seed=1) * 2 + 1
REFERENCE = random(4, 3, seed=2)
POLICY = random(4, 3, seed=4)


def logprobs(table: Tensor) -> Tensor:
    """log pi of every token of every completion, zero in the padding: [7, 2]."""
    rows = torch.log_softmax(table, -1)
    zero = rows.new_zeros(())
    return torch.stack(
        [torch.stack([rows[0, c[0]], rows[1 + c[0], c[1]] if len(c) == 2 else zero]) for c in COMPLETIONS]
    )


def gradient_of(expectation: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of a function of the policy's table, at the policy: [4, 3]."""
    table = POLICY.clone().requires_grad_()
    return torch.autograd.grad(expectation(table), table)[0]


def objective(table: Tensor) -> Tensor:
    """J = E[r] - beta KL(policy || reference), summed over all completions."""
    whole = logprobs(table).sum(1)
    return (whole.exp() * (SCORES - BETA * (whole - logprobs(REFERENCE).sum(1)))).sum()


def kl(table: Tensor) -> Tensor:
    """KL(policy || reference) over whole completions."""
    whole = logprobs(table).sum(1)
    return (whole.exp() * (whole - logprobs(REFERENCE).sum(1))).sum()


def engine_at(table: Tensor) -> TabularEngine:
    """The package's engine with this table as its policy."""
    engine = TabularEngine(REFERENCE.unsqueeze(0), end=2)
    engine.logits.data = table.clone().unsqueeze(0)
    return engine


def expected_gradient(
    algorithm: Algorithm,
    completions: int,
    *,
    placement: Placement = "reward",
    past: RunningMean = NOTHING,
    sampler: Tensor = POLICY,
) -> Tensor:
    """Minus the gradient of the algorithm's loss, averaged over every batch of `completions` samples: [4, 3].

    The samples come from the table `sampler`; where that is not the policy, the trainer reads them again.
    """
    engine, everything = engine_at(POLICY), engine_at(sampler).all_completions()
    probabilities = logprobs(sampler).sum(1).exp()
    total = torch.zeros_like(POLICY)
    for rows in map(list, product(range(len(COMPLETIONS)), repeat=completions)):
        rollout = picked(everything, rows)
        log_weights = None
        if sampler is not POLICY:
            rollout, log_weights = recompute_logprobs(rollout, engine, completions, lambda: None)
        scored = scored_by(engine, rollout, SCORES[rows], BETA, kl=placement, log_weights=log_weights)
        accumulate_gradient(
            algorithm.advantages(scored, past),
            torch.arange(completions),
            algorithm,
            engine,
            kl=placement,
            max_new_tokens=2,
            microbatch_size=completions,
            tick=lambda: None,
        )
        total -= probabilities[rows].prod() * engine.logits.grad[0]
        engine.logits.grad = None
    return total


def picked(everything: Rollout, rows: list[int]) -> Rollout:
    """These completions as one group."""
    return replace(
        everything,
        batch=PromptBatch(everything.batch.prompts, len(rows), tuple(range(len(rows)))),
        tokens=everything.tokens[rows],
        completion_mask=everything.completion_mask[rows],
        logprobs=everything.logprobs[rows],
        hidden=everything.hidden[rows],
        truncated=everything.truncated[rows],
        texts=tuple(everything.texts[row] for row in rows),
    )
