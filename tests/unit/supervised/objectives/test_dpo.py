"""DPO: equation 7, by a plain implementation beside it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.models.policy import Policy
from rlhf_cli.supervised.objectives.dpo import Dpo, dpo_loss
from tests.unit.supervised.support import DPO, batch_of, example_of
from tests.unit.support import logits_of


def plain(chosen: Tensor, rejected: Tensor, ref: tuple[Tensor, Tensor], beta: float, smoothing: float) -> Tensor:
    """The conservative DPO of one vote, straight from the formulas."""
    won = torch.sigmoid(beta * ((chosen - ref[0]) - (rejected - ref[1])))
    return -(1 - smoothing) * torch.log(won) - smoothing * torch.log(1 - won)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_and_its_gradient_are_those_of_the_paper(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(1)
    chosen, rejected, *ref = torch.randn(4, 40, generator=generator, dtype=torch.float64) * 4
    found = []
    for plainly in (False, True):
        c, r = chosen.clone().requires_grad_(), rejected.clone().requires_grad_()
        if plainly:
            losses = plain(c, r, (ref[0], ref[1]), 0.3, smoothing)
        else:
            losses = dpo_loss(0.3 * (c - ref[0]) - 0.3 * (r - ref[1]), torch.ones(40, dtype=torch.float64), smoothing)
        losses.sum().backward()
        found.append((losses.detach(), c.grad, r.grad))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)


def test_smoothing_moves_a_share_of_votes_to_the_other_side() -> None:
    margins, shares = torch.tensor([1.0]), torch.tensor([0.8])
    smoothed = dpo_loss(margins, shares, 0.25)
    # 0.8 * 0.75 + 0.2 * 0.25 = 0.65 of the votes are right
    expected = 0.65 * math.log(1 + math.exp(-1)) + 0.35 * math.log(1 + math.exp(1))
    assert smoothed.item() == pytest.approx(expected)


def test_the_rewards_are_those_of_two_plain_forward_passes(moved: Policy) -> None:
    examples = [example_of(moved, "Say a.", "abc", "zz"), example_of(moved, "b", "x", "yyy", share=0.25)]
    batch = batch_of(moved, examples)
    reading = Dpo.model_validate(DPO).read(batch, torch.tensor([1, 0]), TransformersEngine(moved))
    for place, example in enumerate((examples[1], examples[0])):
        for side, completion in zip(("chosen", "rejected"), example.completions, strict=True):
            tokens, start = [*example.prompt.tokens, *completion], len(example.prompt.tokens)
            now = logits_of(moved, tokens)[start - 1 : -1].log_softmax(1)
            with moved.reference():
                before = logits_of(moved, tokens)[start - 1 : -1].log_softmax(1)
            gain = sum(float((now - before)[i, token]) for i, token in enumerate(completion))
            assert float(reading.columns[side][place]) == pytest.approx(0.5 * gain, rel=1e-4, abs=1e-5)
    assert reading.columns["share"].tolist() == [0.25, 1.0]
    margin = reading.columns["chosen"] - reading.columns["rejected"]
    torch.testing.assert_close(reading.losses.detach(), dpo_loss(margin, torch.tensor([0.25, 1.0]), 0.0))
    assert reading.losses.requires_grad
    assert not any(column.requires_grad for column in reading.columns.values())


def test_before_any_update_every_pair_costs_log_2(tiny_policy: Policy) -> None:
    """The policy is the reference, so no pair has a margin."""
    batch = batch_of(tiny_policy, [example_of(tiny_policy, "Say a.", "abc", "zz")])
    reading = Dpo.model_validate(DPO).read(batch, torch.tensor([0]), TransformersEngine(tiny_policy))
    assert reading.losses.item() == pytest.approx(math.log(2))
