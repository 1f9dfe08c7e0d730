"""The Bradley-Terry law on the scores of a linear head."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.models.value_head import ValueHead
from rlhf_cli.supervised.objectives.bradley_terry import BradleyTerry, bradley_terry_loss
from tests.unit.supervised.support import BRADLEY_TERRY, batch_of, example_of
from tests.unit.support import build, move_adapter, tiny


def plain(chosen: Tensor, rejected: Tensor, share: Tensor, margin: Tensor, centre: float) -> Tensor:
    """Straight from the formulas."""
    won, lost = torch.sigmoid(chosen - rejected - margin), torch.sigmoid(rejected - chosen - margin)
    return -share * torch.log(won) - (1 - share) * torch.log(lost) + centre * (chosen + rejected) ** 2


def test_the_loss_and_its_gradient_are_those_of_the_papers() -> None:
    generator = torch.Generator().manual_seed(2)
    chosen, rejected = torch.randn(2, 40, generator=generator, dtype=torch.float64) * 3
    share, margin = torch.rand(2, 40, generator=generator, dtype=torch.float64)
    found = []
    for function in (bradley_terry_loss, plain):
        c, r = chosen.clone().requires_grad_(), rejected.clone().requires_grad_()
        losses = function(c, r, share, margin, 0.05)
        losses.sum().backward()
        found.append((losses.detach(), c.grad, r.grad))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)


def test_by_hand() -> None:
    """Scores 2 and -1, margin 1, centre 0.1: -log sigmoid(3 - 1) + 0.1 * 1."""
    one = torch.ones(1)
    loss = bradley_terry_loss(2 * one, -one, one, one, 0.1)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)) + 0.1)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_score_is_the_head_on_the_state_of_the_last_token(architecture: str) -> None:
    """The last token of a text stands before the dummy behind its end; a text may be the prompt alone."""
    policy = build(tiny(architecture), value_head=True, shared_trunk=True)
    move_adapter(policy)
    examples = [example_of(policy, "Say a.", "abc", ""), example_of(policy, "b", "x", "yyy", share=0.25, margin=0.5)]
    batch = batch_of(policy, examples)
    objective = BradleyTerry.model_validate(BRADLEY_TERRY)
    engines = [TransformersEngine(policy), *([NativeEngine(policy)] if architecture == "llama" else [])]
    for engine in engines:
        reading = objective.read(batch, torch.tensor([0, 1]), engine)
        for place, example in enumerate(examples):
            for side, completion in zip(("chosen", "rejected"), example.completions, strict=True):
                ids = torch.tensor([[*example.prompt.tokens, *completion[:-1]]])
                with torch.no_grad():
                    state = policy.causal.base_model(input_ids=ids).last_hidden_state[0, -1:]
                    assert float(reading.columns[side][place]) == pytest.approx(float(policy.values(state)), rel=1e-4)
        assert reading.losses.requires_grad
        assert not any(column.requires_grad for column in reading.columns.values())
        assert reading.columns["longer"].tolist() == [3, -2]
    chosen, rejected = reading.columns["chosen"], reading.columns["rejected"]
    expected = plain(chosen, rejected, torch.tensor([1.0, 0.25]), torch.tensor([0.0, 0.5]), 0.01)
    torch.testing.assert_close(reading.losses.detach(), expected)


def test_scores_that_follow_length_alone_are_found_out() -> None:
    """The longer side has the higher score in every pair, whichever side people chose."""
    columns = {"chosen": [2.0, 0.0, 1.0], "rejected": [1.0, 2.0, -2.0], "share": [1.0, 1.0, 1.0], "loss": [0.0] * 3}
    figures = BradleyTerry.model_validate(BRADLEY_TERRY).held_out_figures(columns | {"longer": [2.0, -3.0, 4.0]})
    assert figures["length_correlation"] == pytest.approx(1.0)
    assert figures["accuracy"] == pytest.approx(2 / 3)
    confident = [1 / (1 + math.exp(-d)) for d in (1.0, 2.0, 3.0)]  # each in a bin of its own
    assert figures["calibration_error"] == pytest.approx((1 - confident[0] + confident[1] + 1 - confident[2]) / 3)


def test_scores_and_lengths_of_pairs_are_ranked_in_both_orders() -> None:
    """Differences 1 and 2 with 2 and 1 more tokens, and minus both: ranks 3, 4, 2, 1 and 4, 3, 1, 2, so 1 - 24 / 60."""
    columns = {"chosen": [1.0, 2.0], "rejected": [0.0, 0.0], "share": [1.0, 1.0], "loss": [0.0] * 2}
    figures = BradleyTerry.model_validate(BRADLEY_TERRY).held_out_figures(columns | {"longer": [2.0, 1.0]})
    assert figures["length_correlation"] == pytest.approx(0.6)


def test_a_head_without_a_bias_has_one_tensor() -> None:
    assert [name for name, _ in ValueHead(4, shared_trunk=True, bias=False).named_parameters()] == ["linear.weight"]
