"""The gradient of a whole step is that of the mean loss, however the step is cut: by plain formulas, text by text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.models.policy import Policy
from rlhf_cli.supervised.batches import Example
from rlhf_cli.supervised.objectives.bradley_terry import BradleyTerry
from rlhf_cli.supervised.objectives.dpo import Dpo
from rlhf_cli.supervised.objectives.sft import Sft
from rlhf_cli.supervised.shards import accumulate_gradient
from tests.unit.supervised.support import BRADLEY_TERRY, DPO, SFT, batch_of, example_of
from tests.unit.support import build, move_adapter, tiny

TEXTS = [("Say a.", "abc", "z"), ("b", "x", "yyyyyyy"), ("long prompt", "ab", "cd"), ("q", "aaaaaaaaa", "b")]
SHARES, MARGINS = (1.0, 0.5, 0.25, 0.8), (0.0, 0.5, 0.0, 2.0)
"""Of the pairs: a win, a tie, a loss by votes, votes on both sides with a margin."""


def log_probability(policy: Policy, example: Example, side: int) -> Tensor:
    """log pi(y | x), from a forward pass of this one text."""
    start, completion = len(example.prompt.tokens), example.completions[side]
    logits = policy.causal(input_ids=torch.tensor([[*example.prompt.tokens, *completion]]), use_cache=False).logits[0]
    return logits[start - 1 : -1].log_softmax(1).gather(1, torch.tensor(completion).unsqueeze(1)).sum()


def sft(policy: Policy, examples: Sequence[Example]) -> Tensor:
    """All completion tokens weigh alike."""
    tokens = sum(len(example.completions[0]) for example in examples)
    return -torch.stack([log_probability(policy, example, 0) for example in examples]).sum() / tokens


def dpo(policy: Policy, examples: Sequence[Example]) -> Tensor:
    """beta = 0.5; with q votes for chosen, -q log sigmoid(d) - (1 - q) log sigmoid(-d)."""
    losses = []
    for example, share in zip(examples, SHARES, strict=True):
        now = [log_probability(policy, example, side) for side in (0, 1)]
        with torch.no_grad(), policy.reference():
            before = [log_probability(policy, example, side) for side in (0, 1)]
        odds = torch.exp(0.5 * (now[0] - before[0] - now[1] + before[1]))
        losses.append(-share * torch.log(odds / (1 + odds)) - (1 - share) * torch.log(1 / (1 + odds)))
    return torch.stack(losses).mean()


def bradley_terry(policy: Policy, examples: Sequence[Example]) -> Tensor:
    """centre = 0.01; each vote wants its side ahead by the margin."""
    losses = []
    for example, share, margin in zip(examples, SHARES, MARGINS, strict=True):
        tokens = [[*example.prompt.tokens, *completion[:-1]] for completion in example.completions]
        states = [policy.causal.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1:] for ids in tokens]
        chosen, rejected = (policy.values(state)[0] for state in states)
        won, lost = torch.sigmoid(chosen - rejected - margin), torch.sigmoid(rejected - chosen - margin)
        votes = -share * torch.log(won) - (1 - share) * torch.log(lost)
        losses.append(votes + 0.01 * (chosen + rejected) ** 2)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("size", [1, 3, 5, 8])
@pytest.mark.parametrize(
    ("objective", "plain"),
    [
        (Sft.model_validate(SFT), sft),
        (Dpo.model_validate(DPO), dpo),
        (BradleyTerry.model_validate(BRADLEY_TERRY), bradley_terry),
    ],
    ids=["sft", "dpo", "bradley_terry"],
)
def test_the_gradient_of_a_step(objective: Any, plain: Callable[..., Tensor], size: int) -> None:
    policy = build(tiny(layers=1), value_head=objective.scores, shared_trunk=objective.scores)
    move_adapter(policy)
    examples = [
        example_of(policy, prompt, *texts[: objective.completions], share=share, margin=margin)
        for (prompt, *texts), share, margin in zip(TEXTS, SHARES, MARGINS, strict=True)
    ]
    loss = plain(policy, examples)
    torch.autograd.backward(loss)
    expected = {name: weight.grad.clone() for name, weight in policy.parameters().items() if weight.grad is not None}
    for weight in policy.parameters().values():
        weight.grad = None
    batch, engine = batch_of(policy, examples), TransformersEngine(policy)
    columns = accumulate_gradient(batch, objective, engine, objective.size(batch), size, lambda: None)
    assert objective.figures(columns)["loss"] == pytest.approx(loss.item(), rel=1e-5)
    found = {name: weight.grad for name, weight in policy.parameters().items() if weight.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()) + 1e-7)
