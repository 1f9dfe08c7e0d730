"""A policy small enough to list everything it can write, so that expected gradients are sums, not estimates.

Three tokens, two steps; token 2 ends the text, so there are completions of one and of two tokens:
(0,0) (0,1) (0,2) (1,0) (1,1) (1,2) (2). Logits are tables in float64: [3] for the first token, [3, 3] for the second.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.types import Minibatch, Scored
from tests.unit.support import rollout_of, scored_of

COMPLETIONS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2,)]
MASK = torch.tensor([[True, len(completion) == 2] for completion in COMPLETIONS])
BETA = 0.3


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SCORES = random(len(COMPLETIONS), seed=1) * 2 + 1
REFERENCE = (random(3, seed=2), random(3, 3, seed=3))


def parameters() -> tuple[Tensor, Tensor]:
    """The policy's two tables of logits, ready for a gradient."""
    return random(3, seed=4).requires_grad_(), random(3, 3, seed=5).requires_grad_()


def logprobs(first: Tensor, second: Tensor) -> Tensor:
    """log pi of every token of every completion, zero in the padding: [7, 2]."""
    start, then = torch.log_softmax(first, -1), torch.log_softmax(second, -1)
    rows = [[start[c[0]], then[c[0], c[1]] if len(c) == 2 else start.new_zeros(())] for c in COMPLETIONS]
    return torch.stack([torch.stack(row) for row in rows])


def objective_gradient() -> Tensor:
    """The gradient of J = E[r] - beta KL(policy || reference), through the sum over all completions: [12]."""
    tables = parameters()
    whole = logprobs(*tables).sum(1)
    reference = logprobs(*REFERENCE).sum(1)
    objective = (whole.exp() * (SCORES - BETA * (whole - reference))).sum()
    return flat(torch.autograd.grad(objective, tables))


def expected_loss_gradient(algorithm: Reinforce | Rloo, completions: int, past: RunningMean) -> Tensor:
    """The gradient of the algorithm's loss, averaged over every batch of `completions` samples of one prompt: [12]."""
    tables = parameters()
    tokens = logprobs(*tables)
    probabilities = tokens.detach().sum(1).exp()
    expected = torch.zeros((), dtype=torch.float64)
    for rows in map(list, product(range(len(COMPLETIONS)), repeat=completions)):
        advantages = algorithm.advantages(scored(rows, tokens.detach()), past).advantages
        result = algorithm.loss(Minibatch(advantages, MASK[rows], completions), tokens[rows])
        expected = expected + probabilities[rows].prod() * result.loss
    return flat(torch.autograd.grad(expected, tables))


def scored(rows: list[int], tokens: Tensor) -> Scored:
    """The completions `rows` as one group, scored."""
    rollout = rollout_of(MASK[rows], samples=len(rows), logprobs=tokens[rows])
    return scored_of(rollout, SCORES[rows], ref_logprobs=logprobs(*REFERENCE)[rows], beta=BETA)


def flat(tensors: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
