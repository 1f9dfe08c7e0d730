"""A policy small enough to list everything it can write, so that expected gradients are sums, not estimates.

Three tokens, two steps; token 2 ends the text, so there are completions of one and of two tokens:
(0,0) (0,1) (0,2) (1,0) (1,1) (1,2) (2). The logits are a table of four rows in float64: for the first token, and for
the second one after token 0, 1 and 2 (never read). The true gradient is worked out here, from the table alone; the
expected gradient of an algorithm goes through the package: scoring, advantages, loss, accumulation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations_with_replacement
from math import factorial, prod
from typing import Any

import torch
from torch import Tensor

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.placement import Placement
from rlhf_cli.engine.reading import recompute_logprobs
from rlhf_cli.engine.tabular import TabularEngine
from rlhf_cli.pipeline.scoring import learnable_mask
from rlhf_cli.ranks.gradient import accumulate_gradient
from rlhf_cli.types import PromptBatch, Rollout
from tests.unit.support import scored_by

COMPLETIONS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2,)]
MASK = torch.tensor([[True, len(completion) == 2] for completion in COMPLETIONS])
ENDED = torch.tensor([completion[-1] == 2 for completion in COMPLETIONS])
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


def expected_gradient(algorithm: Algorithm, completions: int, **circumstances: Any) -> Tensor:
    """Minus the gradient of the algorithm's loss, averaged over every batch that is not skipped: [4, 3]."""
    total, learned_from = torch.zeros_like(POLICY), 0.0
    for probability, gradient in batch_gradients(algorithm, completions, **circumstances):
        total += probability * gradient
        learned_from += probability
    return total / learned_from


def batch_gradients(
    algorithm: Algorithm,
    completions: int,
    *,
    placement: Placement = "reward",
    past: RunningMean = NOTHING,
    policy: Tensor = POLICY,
    sampler: Tensor | None = None,
    truncated: str = "keep",
) -> Iterator[tuple[float, Tensor]]:
    """Every batch of `completions` samples: its probability, and minus the gradient of the algorithm's loss, [4, 3].

    Batches that differ in the order alone are one, as probable as all of them. The samples come from the table
    `sampler`, by default the policy; where it is another, the trainer reads them again. `truncated` is the setting of
    the reward.
    """
    engine, everything = engine_at(policy), engine_at(policy if sampler is None else sampler).all_completions()
    probabilities = logprobs(policy if sampler is None else sampler).sum(1).exp()
    for rows in map(list, combinations_with_replacement(range(len(COMPLETIONS)), completions)):
        rollout = replace(picked(everything, rows), truncated=~ENDED[rows])
        learnable = learnable_mask(rollout, truncated, algorithm.min_group)
        if not learnable.any():
            continue
        log_weights = None
        if sampler is not None:
            rollout, log_weights = recompute_logprobs(rollout, engine, completions, lambda: None)
        scored = scored_by(engine, rollout, SCORES[rows], BETA, kl=placement, log_weights=log_weights)
        accumulate_gradient(
            algorithm.advantages(replace(scored, learnable=learnable), past),
            learnable.nonzero().squeeze(1),
            algorithm,
            engine,
            kl=placement,
            max_new_tokens=2,
            microbatch_size=completions,
            tick=lambda: None,
        )
        orders = factorial(completions) // prod(map(factorial, Counter(rows).values()))
        yield orders * float(probabilities[rows].prod()), -engine.logits.grad[0]
        engine.logits.grad = None


def optimum() -> Tensor:
    """The table of the policy reference(y) exp(score / beta) / Z, which maximises J."""
    best = torch.softmax(logprobs(REFERENCE).sum(1) + SCORES / BETA, 0)
    first = torch.stack([best[0:3].sum(), best[3:6].sum(), best[6]])
    return torch.stack([first, best[0:3], best[3:6], torch.ones(3, dtype=torch.float64)]).log()


def picked(everything: Rollout, rows: list[int], batch: PromptBatch | None = None) -> Rollout:
    """These completions as one group, of the batch if there are several prompts."""
    return replace(
        everything,
        batch=batch or PromptBatch(everything.batch.prompts, len(rows), tuple(range(len(rows)))),
        tokens=everything.tokens[rows],
        completion_mask=everything.completion_mask[rows],
        logprobs=everything.logprobs[rows],
        hidden=everything.hidden[rows],
        truncated=everything.truncated[rows],
        texts=tuple(everything.texts[row] for row in rows),
    )
