"""Sums in blocks, the adapted layer and attention against plain formulas, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.engine.invariance import Adapted, PromptKeys, adapt, attend, attend_decoding, multiply, sum_outer
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
    frozen = Frozen(weight, invariant=True)
    found = apply_autograd(Adapted, x, known, frozen, a, b.t())
    assert_close(found, expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        assert is_known or torch.equal(adapt(x, frozen, a, b.t()), found)
    direction = torch.randn(70, 6)
    both = (torch.autograd.grad((y * direction).sum(), (x, a, b)) for y in (found, expected))
    for ours, plain in zip(*both, strict=True):
        assert_close(ours, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("keys", "border"), [(16, 0), (304, 0), (304, 160), (304, 16)])
def test_attention_is_the_librarys(keys: int, border: int) -> None:
    query = torch.randn(2, 3, 4, 8, requires_grad=True)
    key, value = (torch.randn(2, 3, keys, 8, requires_grad=True) for _ in range(2))
    mask = fold_mask(torch.arange(keys) < torch.tensor([[keys - 9], [7]])[:, None], 1, torch.float32)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask.expand(-1, -1, 4, -1))
    found, direction = attend(query, key, value, mask, border), torch.randn(2, 3, 4, 8)
    assert_close(found, expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(attend(query, key, value, mask, border), found)
    both = (torch.autograd.grad((y * direction).sum(), (query, key, value)) for y in (found, expected))
    for ours, plain in zip(*both, strict=True):
        assert_close(ours, plain, rtol=0, atol=1e-5)


def test_decoding_reads_the_keys_of_a_prompt_once_and_has_the_bits_of_reading() -> None:
    prompts, copies, groups, size, width, own = 3, 4, 2, 8, 144, 16
    lengths, written = torch.tensor([140, 3, 20]).repeat_interleave(copies), 5
    key, value = torch.randn(2, prompts, groups, width, size)
    own_key, own_value = torch.randn(2, prompts * copies, groups, own, size)
    query = torch.randn(prompts * copies, groups, 3, size)
    seen = torch.cat([torch.arange(width) < lengths[:, None], (torch.arange(own) < written).expand(12, -1)], 1)
    mask = fold_mask(seen[:, None], 1, torch.float32)

    def decode(rows: torch.Tensor, of_prompts: PromptKeys) -> torch.Tensor:
        states = own_key[rows].permute(1, 0, 3, 2), own_value[rows].transpose(0, 1)
        return attend_decoding(query[rows], of_prompts, *states, mask[rows, 0])

    every = torch.arange(12)
    of_prompts = PromptKeys(key.permute(1, 0, 3, 2).contiguous(), value.transpose(0, 1).contiguous(), copies)
    found = decode(every, of_prompts)
    keys, values = (torch.cat([x.repeat_interleave(copies, 0), y], 2) for x, y in ((key, own_key), (value, own_value)))
    assert_close(found, torch.nn.functional.scaled_dot_product_attention(query, keys, values, mask), rtol=0, atol=1e-5)
    padded = torch.nn.functional.pad(query, (0, 0, 0, 13))
    assert torch.equal(found, attend(padded, keys, values, mask, width)[:, :, :3])
    some = torch.tensor([0, 2, 3, 9, 10])  # of the second prompt none
    fewer = of_prompts.keep(some)
    assert fewer.keys.shape[1] == 2
    assert torch.equal(decode(some, fewer), found[some])
    rest = torch.tensor([3, 4])  # all that is left is of the last prompt
    assert torch.equal(decode(some[rest], fewer.keep(rest)), found[some[rest]])
