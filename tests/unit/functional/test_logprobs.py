"""functional.logprobs: the value and the gradient against the plain formula in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlhf_cli.functional.logprobs import BLOCK, Head, block_size, log_softmax, token_logprobs

ROWS, WIDTH, VOCABULARY = 11, 5, 17


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


WEIGHT, BIAS = random(VOCABULARY, WIDTH, seed=1), random(VOCABULARY, seed=2)
TOKENS = torch.arange(ROWS) % VOCABULARY
UPSTREAM = random(ROWS, seed=3)
"""Weights of the rows in a loss: every row has a gradient of its own."""


def linear(hidden: Tensor) -> Tensor:
    return hidden @ WEIGHT.T + BIAS


def softcapped(hidden: Tensor) -> Tensor:
    return torch.tanh(linear(hidden) / 3) * 3


def plain(hidden: Tensor, head: Head, temperature: float) -> Tensor:
    """What token_logprobs must equal: the formula, all at once."""
    return torch.log_softmax(head(hidden) / temperature, -1)[torch.arange(ROWS), TOKENS]


@pytest.mark.parametrize("head", [linear, softcapped])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("chunk", [1, 4, ROWS, 100])
def test_value_and_gradient_equal_the_plain_formula(head: Head, temperature: float, chunk: int) -> None:
    ours, theirs = (random(ROWS, WIDTH).requires_grad_() for _ in range(2))
    logprobs = token_logprobs(ours, TOKENS, head, temperature, chunk=chunk)
    expected = plain(theirs, head, temperature)
    assert_close(logprobs, expected, rtol=0, atol=1e-12)
    (logprobs * UPSTREAM).sum().backward()
    (expected * UPSTREAM).sum().backward()
    assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-6)
    assert float(theirs.grad.abs().max()) > 0.1


@pytest.mark.parametrize("chunk", [5, 100])
def test_the_blocks_of_a_chunk_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_cli.functional.logprobs.BLOCK", 2)
    ours, theirs = (random(ROWS, WIDTH).requires_grad_() for _ in range(2))
    logprobs, expected = token_logprobs(ours, TOKENS, linear, 1.3, chunk=chunk), plain(theirs, linear, 1.3)
    assert_close(logprobs, expected, rtol=0, atol=1e-12)
    (logprobs * UPSTREAM).sum().backward()
    (expected * UPSTREAM).sum().backward()
    assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-6)


def test_the_gradient_reaches_the_weights_of_a_network_below() -> None:
    inputs, gradients = random(ROWS, 3, seed=4), []
    for compute in (lambda h: token_logprobs(h, TOKENS, linear, 1.3, chunk=4), lambda h: plain(h, linear, 1.3)):
        weight = random(3, WIDTH, seed=5).requires_grad_()
        (compute(torch.tanh(inputs @ weight)) * UPSTREAM).sum().backward()
        gradients.append(weight.grad)
    assert_close(gradients[0], gradients[1], rtol=0, atol=1e-6)


def test_a_loss_that_is_not_linear_in_the_logprobs_has_the_right_gradient() -> None:
    ours, theirs = (random(ROWS, WIDTH).requires_grad_() for _ in range(2))
    token_logprobs(ours, TOKENS, linear, 1.0, chunk=3).exp().square().sum().backward()
    plain(theirs, linear, 1.0).exp().square().sum().backward()
    assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-6)


def test_without_a_gradient_the_values_are_the_same() -> None:
    hidden = random(ROWS, WIDTH)
    logprobs = token_logprobs(hidden, TOKENS, linear, 0.7, chunk=4)
    assert not logprobs.requires_grad
    assert_close(logprobs, plain(hidden, linear, 0.7), rtol=0, atol=1e-12)


def test_no_rows_give_no_logprobs() -> None:
    hidden = torch.zeros(0, WIDTH, dtype=torch.float64, requires_grad=True)
    logprobs = token_logprobs(hidden, torch.zeros(0, dtype=torch.long), linear, 1.0)
    assert logprobs.shape == (0,)


def test_the_temperature_divides_the_logits() -> None:
    # logits 2 log 3 and 0 at temperature 2: odds of 3 to 1
    logits = torch.tensor([2.0, 0.0]) * torch.tensor(3.0).log()
    assert_close(log_softmax(logits, 2.0).exp(), torch.tensor([0.75, 0.25]))


def test_half_precision_is_computed_in_float32_and_float64_stays() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    assert log_softmax(logits.bfloat16(), 1.0).dtype == torch.float32
    assert_close(log_softmax(logits.bfloat16(), 1.0), torch.log_softmax(logits, -1))  # 1, 2, 3 are exact in bfloat16
    assert log_softmax(logits.double(), 1.0).dtype == torch.float64


@pytest.mark.parametrize(("device", "rows", "size"), [("cpu", 50, BLOCK), ("meta", 50, 50), ("meta", 0, 1)])
def test_a_device_other_than_a_cpu_takes_all_rows_at_once(device: str, rows: int, size: int) -> None:
    assert block_size(torch.empty(rows, 3, device=device)) == size
