"""Sums in blocks, the adapted layer and attention against plain formulas, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.engine.invariance import Adapted, attend, multiply, sum_outer
from rlhf_cli.engine.kernels import Frozen, fold_mask
from rlhf_cli.functional.logprobs import apply_autograd


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("tokens", [1, 63, 64, 150])
def test_the_sum_over_tokens(tokens: int) -> None:
    x, y = torch.randn(tokens, 3), torch.randn(tokens, 5)
    assert_close(sum_outer(x, y), x.T @ y, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_the_product_of_a_few_rows(rows: int) -> None:
    x, weight = torch.randn(rows, 6), torch.randn(4, 6)
    assert_close(multiply(x, weight), x @ weight.T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("is_known", [False, True])
def test_the_adapted_layer(is_known: bool) -> None:
    weight, x = torch.randn(6, 5), torch.randn(70, 5, requires_grad=True)
    a, b = torch.randn(2, 5, requires_grad=True), torch.randn(6, 2, requires_grad=True)
    expected = x @ weight.T + x @ a.T @ b.T
    known = expected.detach().clone() if is_known else None
    found = apply_autograd(Adapted, x, known, Frozen(weight, invariant=True), a, b.t())
    assert_close(found, expected, rtol=0, atol=1e-5)
    direction = torch.randn(70, 6)
    both = (torch.autograd.grad((y * direction).sum(), (x, a, b)) for y in (found, expected))
    for ours, plain in zip(*both, strict=True):
        assert_close(ours, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("keys", [16, 304])
def test_attention_is_the_librarys(keys: int) -> None:
    query = torch.randn(2, 3, 4, 8, requires_grad=True)
    key, value = (torch.randn(2, 3, keys, 8, requires_grad=True) for _ in range(2))
    mask = fold_mask(torch.arange(keys) < torch.tensor([[keys - 9], [7]])[:, None], 1, torch.float32)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask.expand(-1, -1, 4, -1))
    found, direction = attend(query, key, value, mask), torch.randn(2, 3, 4, 8)
    assert_close(found, expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        assert_close(attend(query[:, :, :1], key, value, mask), expected[:, :, :1], rtol=0, atol=1e-5)
    both = (torch.autograd.grad((y * direction).sum(), (query, key, value)) for y in (found, expected))
    for ours, plain in zip(*both, strict=True):
        assert_close(ours, plain, rtol=0, atol=1e-5)
