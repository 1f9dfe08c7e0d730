"""functional.kl against torch.distributions, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence
from torch.testing import assert_close

from rlhf_cli.functional.kl import compare_distributions, exact_kl, k1, token_kl
from rlhf_cli.functional.logprobs import log_softmax
from rlhf_cli.functional.truncation import pack

ROWS, WIDTH, VOCABULARY, TEMPERATURE = 9, 4, 13, 1.4
GENERATOR = torch.Generator().manual_seed(0)
WEIGHT, HIDDEN, REFERENCE = (
    torch.randn(*shape, dtype=torch.float64, generator=GENERATOR)
    for shape in ((VOCABULARY, WIDTH), (ROWS, WIDTH), (ROWS, WIDTH))
)
TOKENS = torch.arange(ROWS)


def head(hidden: Tensor) -> Tensor:
    return hidden @ WEIGHT.T


def test_k1_is_the_difference_and_may_be_negative() -> None:
    assert k1(torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -0.5])).tolist() == [0.5, -1.5]


def test_exact_kl_by_hand() -> None:
    # 3/4 log(3/4 : 1/2) + 1/4 log(1/4 : 1/2) = 3/4 log 3 - log 2
    policy, reference = torch.tensor([0.75, 0.25]).log(), torch.tensor([0.5, 0.5]).log()
    assert float(exact_kl(policy, reference)) == pytest.approx(0.75 * math.log(3) - math.log(2), abs=1e-6)


def test_exact_kl_is_not_symmetric() -> None:
    one, other = torch.tensor([0.9, 0.1]).log(), torch.tensor([0.5, 0.5]).log()
    assert abs(float(exact_kl(one, other)) - float(exact_kl(other, one))) > 0.1


def test_compare_distributions_equals_torch_distributions() -> None:
    policy, reference = (Categorical(logits=head(h) / TEMPERATURE) for h in (HIDDEN, REFERENCE))
    ref_logprobs, kl, entropy = compare_distributions(HIDDEN, REFERENCE, TOKENS, head, TEMPERATURE)
    assert_close(ref_logprobs, reference.log_prob(TOKENS))
    assert_close(kl, kl_divergence(policy, reference))
    assert_close(entropy, policy.entropy())


def test_the_mean_of_k1_over_the_policy_is_the_exact_kl() -> None:
    policy, reference = log_softmax(head(HIDDEN), TEMPERATURE), log_softmax(head(REFERENCE), TEMPERATURE)
    assert_close((policy.exp() * k1(policy, reference)).sum(-1), exact_kl(policy, reference))


def test_identical_hidden_states_have_no_kl() -> None:
    _, kl, _ = compare_distributions(HIDDEN, HIDDEN.clone(), TOKENS, head, TEMPERATURE)
    assert torch.equal(kl, torch.zeros_like(kl))


@pytest.mark.parametrize("chunk", [1, 2, ROWS, 1000])
def test_the_chunk_size_changes_nothing(chunk: int) -> None:
    whole = compare_distributions(HIDDEN, REFERENCE, TOKENS, head, TEMPERATURE)
    split = compare_distributions(HIDDEN, REFERENCE, TOKENS, head, TEMPERATURE, chunk=chunk)
    for one, other in zip(whole, split, strict=True):
        assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [3, 5, 1000])
def test_the_blocks_of_a_chunk_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = torch.rand(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(1)) < 0.4
    keep[torch.arange(ROWS), TOKENS] = True
    hidden = HIDDEN.clone().requires_grad_()
    whole = compare_distributions(HIDDEN, REFERENCE, TOKENS, head, TEMPERATURE, pack(keep), slopes=2)
    (kl_slopes,) = torch.autograd.grad(token_kl(hidden, REFERENCE, head, TEMPERATURE, pack(keep)).sum(), hidden)
    monkeypatch.setattr("rlhf_cli.functional.logprobs.BLOCK", 2)
    split = compare_distributions(HIDDEN, REFERENCE, TOKENS, head, TEMPERATURE, pack(keep), chunk, slopes=2)
    for one, other in zip(whole, split, strict=True):
        assert_close(one, other, rtol=0, atol=1e-12)
    kl = token_kl(hidden, REFERENCE, head, TEMPERATURE, pack(keep), chunk)
    assert_close(kl.detach(), whole[1], rtol=0, atol=1e-12)
    assert_close(torch.autograd.grad(kl.sum(), hidden)[0], kl_slopes, rtol=0, atol=1e-12)


def test_a_token_whose_probability_underflows_contributes_nothing() -> None:
    policy, reference = log_softmax(torch.tensor([0.0, -500.0]), 1.0), log_softmax(torch.tensor([0.0, 0.0]), 1.0)
    assert float(exact_kl(policy, reference)) == pytest.approx(math.log(2))


def test_a_token_that_the_policy_never_takes_contributes_nothing() -> None:
    # 3/4 log(3/4 : 1/2) + 1/4 log(1/4 : 1/4): the reference keeps its quarter for the token that is left out
    policy, reference = torch.tensor([0.75, 0.25, 0.0]).log(), torch.tensor([0.5, 0.25, 0.25]).log()
    assert float(exact_kl(policy, reference)) == pytest.approx(0.75 * math.log(1.5))


def test_a_truncated_policy_is_measured_against_the_whole_reference() -> None:
    keep = torch.rand(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(1)) < 0.4
    keep[torch.arange(ROWS), TOKENS] = True
    logits, reference = (head(h) / TEMPERATURE for h in (HIDDEN, REFERENCE))
    policy = Categorical(logits=logits.masked_fill(~keep, -math.inf))
    found = compare_distributions(HIDDEN, REFERENCE, TOKENS, head, TEMPERATURE, pack(keep), chunk=4)
    assert_close(found[0], Categorical(logits=reference).log_prob(TOKENS))
    assert_close(found[1], kl_divergence(policy, Categorical(logits=reference)))
    assert_close(found[2], policy.entropy())
    assert float(found[1].min()) > 0


def test_compared_distributions_carry_no_gradient() -> None:
    hidden = HIDDEN.clone().requires_grad_()
    assert not any(t.requires_grad for t in compare_distributions(hidden, REFERENCE, TOKENS, head, TEMPERATURE))


@pytest.mark.parametrize("chunk", [2, 1000])
def test_token_kl_and_its_gradient_are_those_of_torch_distributions(chunk: int) -> None:
    ours, theirs = (HIDDEN.clone().requires_grad_() for _ in range(2))
    found = token_kl(ours, REFERENCE, head, TEMPERATURE, chunk=chunk)
    expected = kl_divergence(
        Categorical(logits=head(theirs) / TEMPERATURE), Categorical(logits=head(REFERENCE) / TEMPERATURE)
    )
    assert_close(found, expected)
    upstream = torch.arange(float(ROWS), dtype=torch.float64)
    (found * upstream).sum().backward()
    (expected * upstream).sum().backward()
    assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-9)
    assert float(theirs.grad.abs().max()) > 0.1


@pytest.mark.parametrize("truncated", [False, True])
def test_the_slopes_are_the_gradients_of_the_logprobs_and_of_the_kl(truncated: bool) -> None:
    keep = torch.rand(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(1)) < 0.4
    keep[torch.arange(ROWS), TOKENS] = True
    kept = pack(keep) if truncated else None
    hidden = HIDDEN.clone().requires_grad_()
    logits = head(hidden) / TEMPERATURE
    policy = torch.log_softmax(logits.masked_fill(~keep, -1e4) if truncated else logits, -1)  # -inf gives NaN here
    kl = kl_divergence(Categorical(logits=policy), Categorical(logits=head(REFERENCE) / TEMPERATURE))
    plain = compare_distributions(HIDDEN, REFERENCE, TOKENS, head, TEMPERATURE, kept, chunk=4)
    *measured, of_token, of_kl = compare_distributions(
        HIDDEN, REFERENCE, TOKENS, head, TEMPERATURE, kept, chunk=4, slopes=2
    )
    assert all(torch.equal(one, other) for one, other in zip(measured, plain, strict=True))
    for found, values in ((of_token, policy[torch.arange(ROWS), TOKENS]), (of_kl, kl)):
        (expected,) = torch.autograd.grad(values.sum(), hidden, retain_graph=True)
        assert_close(found, expected, rtol=0, atol=1e-9)
        assert float(expected.abs().max()) > 0.1
        assert not found.requires_grad


def test_the_slopes_of_the_logprobs_alone() -> None:
    both = compare_distributions(HIDDEN, REFERENCE, TOKENS, head, TEMPERATURE, slopes=2)
    one = compare_distributions(HIDDEN, REFERENCE, TOKENS, head, TEMPERATURE, slopes=1)
    assert len(one) == 4
    assert all(torch.equal(a, b) for a, b in zip(one, both[:4], strict=True))


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3), (1, 3), (2, 1, 3)])
def test_exact_kl_of_any_shape(shape: tuple[int, ...]) -> None:
    policy, reference = (torch.zeros(shape).log_softmax(-1) for _ in range(2))
    assert exact_kl(policy, reference).shape == shape[:-1]


def test_by_row_a_token_alone_has_the_bits_that_it_has_among_others() -> None:
    wide, before = torch.randn(6, 40_000, generator=torch.Generator().manual_seed(0)), torch.get_num_threads()
    policy, reference = wide.log_softmax(-1), wide.flip(0).log_softmax(-1)
    torch.set_num_threads(2)
    try:
        pairs = zip(policy.split(1), reference.split(1), strict=True)
        alone = torch.cat([exact_kl(one, other, by_row=True) for one, other in pairs])
        assert torch.equal(alone, exact_kl(policy, reference, by_row=True))
    finally:
        torch.set_num_threads(before)
