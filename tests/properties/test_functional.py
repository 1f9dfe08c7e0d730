"""Properties of the pure functions."""

from __future__ import annotations

import math

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from rlhf_cli.evaluation.intervals import estimate, t_quantile
from rlhf_cli.functional.kl import exact_kl
from rlhf_cli.functional.logprobs import log_softmax, token_logprobs
from rlhf_cli.functional.masked import masked_mean, masked_sum
from rlhf_cli.functional.returns import leave_one_out, returns_to_go, token_rewards
from rlhf_cli.functional.sampling import inverse_cdf
from rlhf_cli.functional.truncation import pack, sampling_mask, select, unpack

seeds = st.integers(0, 2**31)
temperatures = st.floats(0.3, 3.0)
lengths = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mask_of(lengths: list[int]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


@given(seeds, lengths, st.floats(0, 5))
def test_the_rewards_of_a_completion_sum_to_its_penalised_score(seed: int, lengths: list[int], beta: float) -> None:
    mask = mask_of(lengths)
    kl, scores = random(*mask.shape, seed=seed), random(len(lengths), seed=seed + 1)
    rewards = token_rewards(scores, kl, beta, mask)
    assert_close(rewards.sum(1), scores - beta * masked_sum(kl, mask))
    assert not rewards[~mask].any()


@given(seeds, lengths)
def test_the_first_return_to_go_is_the_whole_return_and_each_step_takes_its_reward_off(
    seed: int, lengths: list[int]
) -> None:
    rewards = random(len(lengths), max(lengths), seed=seed)
    found = returns_to_go(rewards)
    assert_close(found[:, 0], rewards.sum(1))
    assert_close(found[:, :-1] - found[:, 1:], rewards[:, :-1])


@given(seeds, st.integers(1, 4), st.integers(2, 6), st.floats(-50, 50))
def test_leave_one_out_advantages_sum_to_zero_in_every_group_and_ignore_a_shift(
    seed: int, groups: int, size: int, shift: float
) -> None:
    values = random(groups * size, seed=seed)
    centred = values - leave_one_out(values, size, values.isfinite())
    assert_close(centred.view(groups, size).sum(1), torch.zeros(groups, dtype=torch.float64))
    shifted = values + torch.arange(groups).repeat_interleave(size) * shift
    assert_close(shifted - leave_one_out(shifted, size, shifted.isfinite()), centred, rtol=0, atol=1e-9)


@given(seeds, st.integers(1, 3), st.integers(2, 6))
def test_leave_one_out_is_the_group_mean_enlarged(seed: int, groups: int, size: int) -> None:
    # G / (G - 1) times the distance from the group's mean
    values = random(groups * size, seed=seed)
    from_mean = (values.view(groups, size) - values.view(groups, size).mean(1, keepdim=True)).flatten()
    assert_close(values - leave_one_out(values, size, values.isfinite()), from_mean * size / (size - 1))


@given(seeds, lengths)
def test_masked_means_see_only_what_the_mask_shows(seed: int, lengths: list[int]) -> None:
    mask = mask_of(lengths)
    values = random(*mask.shape, seed=seed)
    hidden = values.masked_fill(~mask, math.nan)
    assert torch.equal(masked_sum(hidden, mask), masked_sum(values, mask))
    assert_close(masked_mean(hidden, mask), values[mask].mean())


@given(seeds, st.integers(1, 40), temperatures, st.floats(0.1, 20.0))
def test_exact_kl_is_never_negative_and_zero_to_itself(
    seed: int, vocabulary: int, temperature: float, scale: float
) -> None:
    policy, reference = (log_softmax((random(vocabulary, seed=seed + i) * scale).float(), temperature) for i in (0, 1))
    assert float(exact_kl(policy, reference)) >= -1e-6
    assert float(exact_kl(policy, policy)) == 0.0


@given(seeds, st.integers(1, 12), st.integers(1, 15), temperatures)
def test_token_logprobs_and_their_gradient_do_not_depend_on_the_chunk(
    seed: int, rows: int, chunk: int, temperature: float
) -> None:
    weight, hidden = random(9, 3, seed=seed), random(rows, 3, seed=seed + 1)
    tokens = torch.arange(rows) % 9
    found = []
    for size in (chunk, rows):
        leaf = hidden.clone().requires_grad_()
        logprobs = token_logprobs(leaf, tokens, lambda h: h @ weight.T, temperature, chunk=size)
        logprobs.sum().backward()
        assert leaf.grad is not None
        found.append((logprobs.detach(), leaf.grad))
    assert_close(found[0], found[1])
    assert bool((found[0][0] <= 0).all())


@given(
    seeds,
    st.integers(1, 600),
    temperatures,
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8),
    st.floats(0.0, 6.0),
)
def test_the_chosen_tokens_interval_holds_the_uniform(
    seed: int, vocabulary: int, temperature: float, uniforms: list[float], scale: float
) -> None:
    logits = random(len(uniforms), vocabulary, seed=seed) * scale
    points = torch.tensor(uniforms, dtype=torch.float64)
    tokens, logprobs = inverse_cdf(logits, points, temperature)
    ends = torch.softmax(logits / temperature, -1).cumsum(-1)
    begins = torch.nn.functional.pad(ends, (1, 0))
    assert bool((begins.gather(1, tokens[:, None])[:, 0] <= points + 1e-12).all())
    assert bool((points < ends.gather(1, tokens[:, None])[:, 0] + 1e-12).all())
    assert_close(logprobs, torch.log_softmax(logits / temperature, -1).gather(1, tokens[:, None])[:, 0])


@given(seeds, st.integers(2, 520), st.data())
def test_a_token_without_mass_is_never_chosen(seed: int, vocabulary: int, data: st.DataObject) -> None:
    edges = [0, 1, vocabulary // 2, vocabulary - 2, vocabulary - 1, min(255, vocabulary - 1), min(256, vocabulary - 1)]
    dead = data.draw(st.sets(st.sampled_from(edges), min_size=1))
    assume(len(dead) < vocabulary)
    logits = random(1, vocabulary, seed=seed).float()
    logits[0, sorted(dead)] = -math.inf
    points = torch.tensor([0.0, 0.5, 1 - 2**-53, data.draw(st.floats(0, 1, exclude_max=True))], dtype=torch.float64)
    tokens, _ = inverse_cdf(logits.expand(4, -1), points, 1.0)
    assert not set(tokens.tolist()) & dead


tops = st.none() | st.integers(1, 50)
shares = st.floats(1e-6, 1.0)


@given(seeds, st.integers(1, 40), tops, shares, st.floats(0.0, 1.0), st.floats(0.1, 20.0))
def test_the_most_probable_token_is_kept_and_the_kept_ones_share_all_the_mass(
    seed: int, vocabulary: int, top_k: int | None, top_p: float, min_p: float, scale: float
) -> None:
    logits = random(4, vocabulary, seed=seed).float() * scale
    keep = sampling_mask(log_softmax(logits, 1.0), top_k, top_p, min_p)
    assert bool(keep[torch.arange(4), logits.argmax(-1)].all())
    assert_close(log_softmax(logits, 1.0, keep).exp().sum(-1), torch.ones(4))
    assert top_k is None or int(keep.sum(-1).max()) <= top_k
    least = logits.masked_fill(~keep, math.inf).amin(-1)
    assert bool((logits.masked_fill(keep, -math.inf).amax(-1) <= least).all())  # nothing left out is more probable


@given(seeds, st.integers(1, 40), tops, shares, shares, st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.1, 20.0))
def test_a_larger_share_keeps_more_and_a_larger_bound_fewer(
    seed: int, vocabulary: int, top_k: int | None, one: float, other: float, low: float, high: float, scale: float
) -> None:
    logprobs = log_softmax(random(4, vocabulary, seed=seed).float() * scale, 1.0)
    (few, many), (low, high) = sorted((one, other)), sorted((low, high))
    assert not (sampling_mask(logprobs, top_k, few, low) & ~sampling_mask(logprobs, top_k, many, low)).any()
    assert not (sampling_mask(logprobs, top_k, one, high) & ~sampling_mask(logprobs, top_k, one, low)).any()
    assert (
        top_k is None
        or not (sampling_mask(logprobs, top_k, 1.0, 0.0) & ~sampling_mask(logprobs, top_k + 1, 1.0, 0.0)).any()
    )


@given(seeds, st.integers(1, 60), st.floats(0.01, 0.99), st.floats(0.1, 10.0))
def test_top_p_keeps_the_fewest_tokens_that_have_the_mass(
    seed: int, vocabulary: int, top_p: float, scale: float
) -> None:
    logprobs = log_softmax(random(vocabulary, seed=seed) * scale, 1.0)
    mass = logprobs[sampling_mask(logprobs, None, top_p, 0.0)].exp()
    assert float(mass.sum()) >= top_p - 1e-9
    assert float(mass.sum() - mass.min()) < top_p + 1e-9


@given(seeds, st.integers(1, 12), st.integers(1, 9), st.integers(1, 15), st.data())
def test_stored_sets_come_back_whatever_the_chunk_and_the_order(
    seed: int, positions: int, vocabulary: int, chunk: int, data: st.DataObject
) -> None:
    keep = random(positions, vocabulary, seed=seed) > 0
    order = data.draw(st.lists(st.integers(0, positions - 1), min_size=1))
    sets = select(pack(keep), torch.tensor(order))
    for start in range(0, len(order), chunk):
        found = unpack(sets, slice(start, start + chunk), len(order))
        assert found is not None
        assert torch.equal(found, keep[order[start : start + chunk]])


@given(seeds, st.integers(1, 300), st.integers(2, 6))
def test_a_larger_uniform_uniform_never_takes_an_earlier_token(seed: int, vocabulary: int, count: int) -> None:
    points = torch.linspace(0, 1 - 2**-53, 50 * count, dtype=torch.float64)
    tokens, _ = inverse_cdf(random(1, vocabulary, seed=seed).expand(len(points), -1), points, 1.0)
    assert bool((tokens.diff() >= 0).all())


@given(st.floats(0.5, 0.999), st.integers(5, 200))
def test_t_quantiles_lie_above_the_normal_ones_and_fall_with_the_degrees(probability: float, degrees: int) -> None:
    from statistics import NormalDist

    assert t_quantile(probability, degrees) >= t_quantile(probability, degrees + 1) - 1e-12
    assert t_quantile(probability, degrees) >= NormalDist().inv_cdf(probability) - 1e-12


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.floats(-1e3, 1e3), st.floats(0.1, 10))
def test_an_interval_moves_and_scales_with_its_values(values: list[float], shift: float, scale: float) -> None:
    one, other = estimate(values), estimate([value * scale + shift for value in values])
    assert math.isclose(other.mean, one.mean * scale + shift, rel_tol=1e-9, abs_tol=1e-6)
    assert math.isclose(other.half_width, one.half_width * scale, rel_tol=1e-6, abs_tol=1e-6)
    assert one.low <= one.mean <= one.high
