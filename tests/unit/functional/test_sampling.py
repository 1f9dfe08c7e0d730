"""functional.sampling: the uniform's interval decides the token, and the frequencies are the softmax."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlhf_cli.functional.logprobs import log_softmax
from rlhf_cli.functional.sampling import greedy, inverse_cdf
from rlhf_cli.functional.truncation import sampling_mask

ONE_BELOW_ONE = math.nextafter(1.0, 0.0)
VOCABULARIES = [1, 2, 255, 256, 257, 300, 512, 1000]


def logits_of(vocabulary: int, rows: int = 1, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * scale


def draw(logits: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
    """One token for each uniform, all from the one row of logits."""
    return inverse_cdf(logits.expand(len(uniforms), -1), uniforms, temperature)[0]


def uniforms_of(count: int) -> Tensor:
    return torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_by_hand_the_intervals_follow_the_order_of_the_vocabulary() -> None:
    logits = torch.tensor([[1.0, 2.0, 1.0]]).log()  # cumulative: 1/4, 3/4, 1
    uniforms = torch.tensor([0.0, 0.2499, 0.2501, 0.7499, 0.7501, 0.9999], dtype=torch.float64)
    assert draw(logits, uniforms).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_uniform_on_the_border_belongs_to_the_next_token() -> None:
    logits = torch.zeros(1, 4)  # cumulative: 1/4, 1/2, 3/4, 1, exactly
    uniforms = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    assert draw(logits, uniforms).tolist() == [1, 2, 3]


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.0])
def test_the_token_is_the_one_whose_interval_holds_the_uniform(vocabulary: int, temperature: float) -> None:
    logits, uniforms = logits_of(vocabulary, scale=2.0).double(), uniforms_of(400)
    ends = torch.softmax(logits[0] / temperature, -1).cumsum(-1)
    tokens = draw(logits, uniforms, temperature)
    begins = torch.nn.functional.pad(ends, (1, 0))[tokens]
    assert bool((begins - 1e-12 <= uniforms).all())
    assert bool((uniforms < ends[tokens] + 1e-12).all())
    if vocabulary > 1:
        assert len(tokens.unique()) > 1


@pytest.mark.parametrize("vocabulary", [300, 512])
def test_the_frequencies_pass_a_chi_square_test_against_the_softmax(vocabulary: int) -> None:
    logits, count, temperature = logits_of(vocabulary), 60_000, 1.5
    expected = torch.softmax(logits[0].double() / temperature, -1) * count
    observed = torch.bincount(draw(logits, uniforms_of(count), temperature), minlength=vocabulary)
    assert float(expected.min()) > 5  # where the chi-square approximation holds
    chi_square, degrees = float(((observed - expected) ** 2 / expected).sum()), vocabulary - 1
    assert abs(chi_square - degrees) < 4 * math.sqrt(2 * degrees)


def test_evenly_spaced_uniforms_hit_every_token_as_often_as_its_probability_says() -> None:
    logits, count = logits_of(700, seed=3), 40_000
    grid = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    observed = torch.bincount(draw(logits, grid), minlength=700)
    expected = torch.softmax(logits[0].double(), -1) * count
    assert float((observed - expected).abs().max()) <= 1.01  # a token's interval may gain or lose a point at each end


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_the_smallest_and_the_largest_uniform_take_the_first_and_the_last_token(vocabulary: int) -> None:
    logits = logits_of(vocabulary)
    ends = torch.tensor([0.0, ONE_BELOW_ONE], dtype=torch.float64)
    assert draw(logits, ends).tolist() == [0, vocabulary - 1]


@pytest.mark.parametrize("vocabulary", [200, 300, 600])
def test_rounding_of_the_sums_never_pushes_the_largest_uniform_past_the_last_token(vocabulary: int) -> None:
    uniform = torch.tensor([ONE_BELOW_ONE], dtype=torch.float64)
    for seed in range(40):  # in about half of them the sum of a block is not the sum of its tokens, in the last digit
        logits = logits_of(vocabulary, seed=seed).double() * 2.1
        logits[0, -1] = -math.inf
        assert draw(logits, uniform).tolist() == [vocabulary - 2]


@pytest.mark.parametrize("vocabulary", [2, 256, 300, 513])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_a_token_without_mass_is_never_chosen_not_even_at_the_ends(vocabulary: int, temperature: float) -> None:
    logits = logits_of(vocabulary, seed=2)
    edges = {0, vocabulary - 1, 255, 256, 1} if vocabulary > 2 else {0}
    dead = sorted(token for token in edges if token < vocabulary)
    logits[:, dead] = -math.inf
    grid = torch.linspace(0, ONE_BELOW_ONE, 4000, dtype=torch.float64)
    tokens, logprobs = inverse_cdf(logits.expand(len(grid), -1), grid, temperature)
    assert not set(tokens.tolist()) & set(dead)
    assert bool(logprobs.isfinite().all())


def test_whole_blocks_without_mass_are_passed_over() -> None:
    logits = torch.full((1, 1000), -math.inf)
    logits[0, [300, 999]] = 0.0
    uniforms = torch.tensor([0.0, 0.4999, 0.5001, ONE_BELOW_ONE], dtype=torch.float64)
    assert draw(logits, uniforms).tolist() == [300, 300, 999, 999]


def test_one_token_with_all_the_mass_is_always_chosen() -> None:
    logits = torch.full((1, 600), -math.inf)
    logits[0, 599] = 5.0
    uniforms = torch.tensor([0.0, 0.3, ONE_BELOW_ONE], dtype=torch.float64)
    tokens, logprobs = inverse_cdf(logits.expand(3, -1), uniforms, 1.0)
    assert tokens.tolist() == [599, 599, 599]
    assert logprobs.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_the_logprob_is_that_of_the_tempered_softmax(temperature: float) -> None:
    logits = logits_of(300, rows=50)
    tokens, logprobs = inverse_cdf(logits, uniforms_of(50), temperature)
    assert_close(logprobs, torch.log_softmax(logits / temperature, -1)[torch.arange(50), tokens])


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    logits, uniforms = logits_of(300, rows=20, scale=3.0), uniforms_of(20)
    together = inverse_cdf(logits, uniforms, 1.1)
    for row in range(20):
        alone = inverse_cdf(logits[row : row + 1], uniforms[row : row + 1], 1.1)
        assert int(alone[0]) == int(together[0][row])
        assert_close(alone[1][0], together[1][row])


def test_by_hand_the_kept_tokens_share_the_unit_interval() -> None:
    logits = torch.tensor([[1.0, 2.0, 1.0, 1.0]]).log()  # of 0 and 2 and 3: cumulative 1/3, 2/3, 1
    keep = torch.tensor([[True, False, True, True]])
    uniforms = torch.tensor([0.0, 0.3333, 0.3334, 0.6666, 0.6667, ONE_BELOW_ONE], dtype=torch.float64)
    tokens, logprobs = inverse_cdf(logits.expand(6, -1), uniforms, 1.0, keep.expand(6, -1))
    assert tokens.tolist() == [0, 0, 2, 2, 3, 3]
    assert_close(logprobs.exp(), torch.full((6,), 1 / 3))


@pytest.mark.parametrize(("top_k", "top_p", "min_p"), [(40, 1.0, 0.0), (None, 0.5, 0.0), (None, 1.0, 0.1)])
def test_evenly_spaced_uniforms_hit_the_kept_tokens_as_often_as_their_share_says_and_no_others(
    top_k: int | None, top_p: float, min_p: float
) -> None:
    logits, count, temperature = logits_of(700, seed=3, scale=1.5), 20_000, 1.2
    keep = sampling_mask(log_softmax(logits, temperature), top_k, top_p, min_p)
    assert 20 < int(keep.sum()) < 300
    grid = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    tokens, logprobs = inverse_cdf(logits.expand(count, -1), grid, temperature, keep.expand(count, -1))
    share = torch.softmax(logits[0].double() / temperature, -1) * keep[0]
    share /= share.sum()
    observed = torch.bincount(tokens, minlength=700)
    assert float((observed - share * count).abs().max()) <= 1.01
    assert not observed[~keep[0]].any()
    assert_close(logprobs, share[tokens].log().float())


def test_greedy_takes_the_most_probable_token_and_its_untempered_logprob() -> None:
    logits = torch.tensor([[1.0, 4.0, 4.0 - 1e-3], [2.0, 0.0, 1.0]])
    tokens, logprobs = greedy(logits)
    assert tokens.tolist() == [1, 0]
    assert_close(logprobs, torch.log_softmax(logits, -1)[torch.arange(2), tokens])


@pytest.mark.parametrize("vocabulary", [5, 256, 700])
def test_nan_logits_give_a_token_with_a_nan_log_probability(vocabulary: int) -> None:
    logits = torch.zeros(3, vocabulary)
    logits[1, 2] = torch.nan
    tokens, logprobs = inverse_cdf(logits, torch.tensor([0.3, 0.3, 0.999]), 1.0)
    assert bool(((tokens >= 0) & (tokens < vocabulary)).all())
    assert logprobs.isnan().tolist() == [False, True, False]
