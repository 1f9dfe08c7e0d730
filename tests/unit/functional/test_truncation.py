"""functional.truncation: by hand, against the library's own filters, and the policy gradient by enumeration."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlhf_cli.functional.kl import compare_distributions, exact_kl, k1
from rlhf_cli.functional.logprobs import log_softmax, token_logprobs
from rlhf_cli.functional.truncation import (
    NO_TRUNCATION,
    Truncation,
    join,
    pack,
    sampling_mask,
    select,
    select_rows,
    unpack,
)
from rlhf_cli.types import KeptSets

HAND = torch.tensor([0.10, 0.40, 0.05, 0.25, 0.20], dtype=torch.float64).log()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def ids(keep: Tensor) -> list[int]:
    return [int(i) for i in keep.nonzero().squeeze(1)]


@pytest.mark.parametrize("rows", [[1], [0, 1, 2]])
@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p"), [(3, 1.0, 0.0), (None, 0.9, 0.0), (None, 1.0, 0.1), (3, 0.9, 0.1)]
)
def test_a_row_with_a_nan_keeps_no_token_and_changes_no_other(
    rows: list[int], top_k: int | None, top_p: float, min_p: float
) -> None:
    logits = random(3, 8)
    whole = sampling_mask(log_softmax(logits, 1.0), top_k, top_p, min_p)
    logits[1, 2] = math.nan
    keep = sampling_mask(log_softmax(logits[rows], 1.0), top_k, top_p, min_p)
    expected = torch.where(torch.tensor([row == 1 for row in rows]).unsqueeze(1), False, whole[rows])
    assert keep.tolist() == expected.tolist()


class TestKept:
    """Which tokens are left."""

    @pytest.mark.parametrize(
        ("top_k", "top_p", "min_p", "expected"),
        [
            (None, 1.0, 0.0, [0, 1, 2, 3, 4]),
            (1, 1.0, 0.0, [1]),
            (3, 1.0, 0.0, [1, 3, 4]),
            (5, 1.0, 0.0, [0, 1, 2, 3, 4]),
            (9, 1.0, 0.0, [0, 1, 2, 3, 4]),
            (None, 0.39, 0.0, [1]),  # 0.40 alone has it
            (None, 0.41, 0.0, [1, 3]),  # 0.40, 0.65
            (None, 0.84, 0.0, [1, 3, 4]),  # 0.40, 0.65, 0.85
            (None, 0.86, 0.0, [0, 1, 3, 4]),  # ..., 0.95
            (None, 0.96, 0.0, [0, 1, 2, 3, 4]),
            (None, 1e-9, 0.0, [1]),
            (None, 1.0, 0.6, [1, 3]),  # at least 0.24
            (None, 1.0, 0.24, [0, 1, 3, 4]),  # at least 0.096
            (None, 1.0, 1.0, [1]),
            # 0.40 of 0.65 is 0.615: renormalised after top-k one token is enough, of the whole it would take two
            (2, 0.6, 0.0, [1]),
            (None, 0.6, 0.0, [1, 3]),
            (4, 0.97, 0.3, [1, 3, 4]),  # 0, 1, 3, 4 have 0.95, all needed; at least 0.12
            (2, 0.97, 0.3, [1, 3]),
        ],
    )
    def test_by_hand(self, top_k: int | None, top_p: float, min_p: float, expected: list[int]) -> None:
        assert ids(sampling_mask(HAND, top_k, top_p, min_p)) == expected
        assert ids(sampling_mask(HAND.float(), top_k, top_p, min_p)) == expected

    @pytest.mark.parametrize("k", range(1, 7))
    def test_of_equal_tokens_the_first_are_kept_and_exactly_k(self, k: int) -> None:
        logprobs = log_softmax(torch.tensor([[0.0, 1, 0, 1, 0, 1], [2, 2, 2, 2, 2, 2], [0, 0, 0, 0, 0, 3]]), 1.0)
        found = sampling_mask(logprobs, k, 1.0, 0.0)
        orders = ([1, 3, 5, 0, 2, 4], [0, 1, 2, 3, 4, 5], [5, 0, 1, 2, 3, 4])
        assert [ids(row) for row in found] == [sorted(order[:k]) for order in orders]

    def test_of_equal_tokens_the_first_make_up_the_mass(self) -> None:
        logprobs = log_softmax(torch.zeros(8), 1.0)  # an eighth each
        assert ids(sampling_mask(logprobs, None, 0.6, 0.0)) == [0, 1, 2, 3, 4]
        assert ids(sampling_mask(logprobs, 4, 0.6, 0.0)) == [0, 1, 2]  # a quarter each
        assert ids(sampling_mask(logprobs, None, 1.0, 0.9)) == list(range(8))

    @pytest.mark.parametrize("top_k", [None, 1, 7, 60])
    @pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999, 1.0])
    @pytest.mark.parametrize("min_p", [0.0, 0.02, 0.3])
    def test_the_mask_is_that_of_the_librarys_filters(self, top_k: int | None, top_p: float, min_p: float) -> None:
        from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        logits = random(20, 300) * torch.linspace(0.1, 6, 20, dtype=torch.float64)[:, None]
        expected, no_ids = logits / 1.3, torch.zeros(20, 1, dtype=torch.long)
        if top_k is not None:
            expected = TopKLogitsWarper(top_k)(no_ids, expected)
        if top_p < 1.0:
            expected = TopPLogitsWarper(top_p)(no_ids, expected)
        if min_p > 0.0:
            expected = MinPLogitsWarper(min_p)(no_ids, expected)
        assert torch.equal(sampling_mask(log_softmax(logits, 1.3), top_k, top_p, min_p), expected > -math.inf)

    def test_leading_dimensions_are_rows(self) -> None:
        logprobs = log_softmax(random(2, 3, 40) * 3, 1.0)
        for truncation in ((5, 1.0, 0.0), (None, 0.7, 0.0), (None, 1.0, 0.1), (9, 0.8, 0.05)):
            found = sampling_mask(logprobs, *truncation)
            for row in range(2):
                for column in range(3):
                    assert torch.equal(found[row, column], sampling_mask(logprobs[row, column], *truncation))

    def test_the_whole_mass_keeps_tokens_whose_probability_underflows(self) -> None:
        logprobs = torch.tensor([0.0, -200.0])  # e^-200 is 0 in float32
        assert sampling_mask(logprobs, None, 1.0, 0.0).tolist() == [True, True]
        assert sampling_mask(logprobs, None, 0.99, 0.0).tolist() == [True, False]

    def test_a_vocabulary_of_one_token_keeps_it(self) -> None:
        assert sampling_mask(torch.zeros(2, 1), 5, 0.5, 0.5).tolist() == [[True], [True]]

    def test_is_active(self) -> None:
        assert not NO_TRUNCATION.is_active
        assert not Truncation(None, 1.0, 0.0).is_active
        assert Truncation(50, 1.0, 0.0).is_active
        assert Truncation(None, 0.9, 0.0).is_active
        assert Truncation(None, 1.0, 0.1).is_active


KEEP = torch.tensor(
    [
        [True, False, True, False],
        [False, False, False, True],
        [True, True, True, True],
        [False, True, False, False],
        [False, True, True, False],
    ]
)
"""Five positions over four tokens."""


def whole(sets: KeptSets) -> Tensor:
    """bool [N, V] of all positions."""
    keep = unpack(sets, slice(0, len(sets)), len(sets))
    assert keep is not None
    return keep


class TestKeptSets:
    """The compact form."""

    def test_by_hand(self) -> None:
        sets = pack(KEEP)
        assert sets.ids.tolist() == [0, 2, 3, 0, 1, 2, 3, 1, 1, 2]
        assert sets.offsets.tolist() == [0, 2, 3, 7, 8, 10]
        assert (sets.ids.dtype, sets.offsets.dtype) == (torch.int32, torch.int64)
        assert (len(sets), sets.vocabulary) == (5, 4)

    @pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
    def test_the_chunks_are_those_of_split(self, chunk: int) -> None:
        for start in range(0, 5, chunk):
            found = unpack(pack(KEEP), slice(start, start + chunk), 5)
            assert found is not None
            assert torch.equal(found, KEEP[start : start + chunk])

    def test_without_truncation_there_is_nothing_to_keep(self) -> None:
        assert unpack(None, slice(0, 3), 7) is None

    @pytest.mark.parametrize("positions", [4, 6])
    def test_sets_of_other_positions_are_refused(self, positions: int) -> None:
        with pytest.raises(ValueError, match=rf"^5 kept sets for {positions} positions$"):
            unpack(pack(KEEP), slice(0, 2), positions)

    def test_joined_groups_follow_one_another(self) -> None:
        sets = join([pack(KEEP[:2]), pack(KEEP[2:3]), pack(KEEP[3:])])
        assert torch.equal(whole(sets), KEEP)
        assert torch.equal(sets.offsets, pack(KEEP).offsets)

    @pytest.mark.parametrize("positions", [[0, 1, 2, 3, 4], [4, 0, 2], [3, 3, 1], [2]], ids=str)
    def test_positions_are_taken_in_any_order(self, positions: list[int]) -> None:
        assert torch.equal(whole(select(pack(KEEP), torch.tensor(positions))), KEEP[positions])

    def test_positions_are_taken_by_a_mask(self) -> None:
        mask = torch.tensor([False, True, True, False, True])
        assert torch.equal(whole(select(pack(KEEP), mask)), KEEP[mask])

    def test_no_positions_give_no_sets(self) -> None:
        sets = select(pack(KEEP), torch.zeros(0, dtype=torch.long))
        assert len(sets) == len(sets.ids) == 0

    @pytest.mark.parametrize("rows", [slice(0, 3), slice(1, 3), torch.tensor([2, 0]), torch.tensor([1])], ids=str)
    def test_rows_of_a_rollout(self, rows: slice | Tensor) -> None:
        mask = torch.tensor([[True, True, False], [True, False, False], [True, True, False]])
        padded = torch.zeros(3, 3, 4, dtype=torch.bool)
        padded[mask] = KEEP
        sets = select_rows(pack(KEEP), mask, rows)
        assert sets is not None
        assert torch.equal(whole(sets), padded[rows][mask[rows]])
        assert select_rows(None, mask, rows) is None


class TestTruncatedPolicy:
    """Two tokens from a table of four, every completion listed: logits are tables in float64, the head is the identity.

    The first token has logits [4], the second [4, 4] by the first.
    """

    TEMPERATURE = 1.3
    REWARDS = random(4, 4, seed=1) + 1
    REFERENCE = (random(4, seed=2), random(4, 4, seed=3))
    TRUNCATION = (3, 0.8, 0.05)

    def tables(self) -> tuple[Tensor, Tensor]:
        return (random(4, seed=11) * 1.5).requires_grad_(), (random(4, 4, seed=12) * 1.5).requires_grad_()

    def sets(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """What a sampler with these tables keeps: bool [4] and [4, 4]."""
        one, other = (
            sampling_mask(log_softmax(t.detach(), self.TEMPERATURE), *self.TRUNCATION) for t in (first, second)
        )
        return one, other

    def completions(self, keeps: tuple[Tensor, Tensor]) -> list[tuple[int, int]]:
        return [(a, b) for a in ids(keeps[0]) for b in ids(keeps[1][a])]

    def logprobs(
        self, tables: tuple[Tensor, Tensor], written: list[tuple[int, int]], keeps: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """log pi of the tokens of each completion, by the trainer's function: [n, 2]."""
        hidden = torch.cat([torch.stack([tables[0], tables[1][a]]) for a, _ in written])
        sets = None if keeps is None else pack(torch.cat([torch.stack([keeps[0], keeps[1][a]]) for a, _ in written]))
        tokens = torch.tensor(written).flatten()
        return token_logprobs(hidden, tokens, lambda h: h, self.TEMPERATURE, sets, chunk=3).view(-1, 2)

    def objective(self, tables: tuple[Tensor, Tensor], keeps: tuple[Tensor, Tensor]) -> Tensor:
        """E[r] over the policy truncated to fixed sets, written out with exponentials."""
        weights = [(table / self.TEMPERATURE).exp() * keep for table, keep in zip(tables, keeps, strict=True)]
        first, second = (w / w.sum(-1, keepdim=True) for w in weights)
        return (first[:, None] * second * self.REWARDS).sum()

    def score_function(
        self,
        tables: tuple[Tensor, Tensor],
        sampled_from: tuple[Tensor, Tensor],
        evaluated_on: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """E[r grad log pi] over what truncated to `sampled_from` writes, with log pi on other sets or none: [20]."""
        written = self.completions(sampled_from)
        probabilities = self.logprobs(tables, written, sampled_from).detach().sum(1).exp()
        assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-12)
        rewards = torch.stack([self.REWARDS[a, b] for a, b in written])
        surrogate = (probabilities * rewards * self.logprobs(tables, written, evaluated_on).sum(1)).sum()
        return torch.cat([g.flatten() for g in torch.autograd.grad(surrogate, tables)])

    def test_the_toy_truncates(self) -> None:
        keeps = self.sets(*self.tables())
        sizes = [int(keeps[0].sum()), *keeps[1].sum(1).tolist()]
        assert min(sizes) >= 1
        assert max(sizes) < 4
        assert len(set(sizes)) > 1
        assert max(sizes) > 1

    def test_with_the_stored_sets_the_score_function_gradient_is_that_of_the_objective(self) -> None:
        tables = self.tables()
        keeps = self.sets(*tables)
        gradient = torch.autograd.grad(self.objective(tables, keeps), tables)
        expected = torch.cat([g.flatten() for g in gradient])
        assert float(expected.abs().max()) > 0.05
        assert_close(self.score_function(tables, keeps, keeps), expected, rtol=0, atol=1e-12)

    def test_log_probabilities_without_the_sets_have_another_gradient(self) -> None:
        tables = self.tables()
        keeps = self.sets(*tables)
        right, wrong = self.score_function(tables, keeps, keeps), self.score_function(tables, keeps, None)
        assert float((right - wrong).abs().max()) > 0.05

    def moved(self) -> tuple[Tensor, Tensor]:
        """The tables some updates later: another set would be kept."""
        first, second = (t.detach() for t in self.tables())
        return (first + random(4, seed=21)).requires_grad_(), (second + random(4, 4, seed=22)).requires_grad_()

    def surrogate_gradient(self, recomputed: bool) -> tuple[float, Tensor]:
        """For samples of the old policy: the mean of the ratio new : old, and the gradient of E_old[ratio r]."""
        old, new = self.tables(), self.moved()
        stored = self.sets(*old)
        written = self.completions(stored)
        before = self.logprobs(old, written, stored).detach().sum(1)
        after = self.logprobs(new, written, self.sets(*new) if recomputed else stored).sum(1)
        ratio = (after - before).exp()
        rewards = torch.stack([self.REWARDS[a, b] for a, b in written])
        gradient = torch.autograd.grad((before.exp() * ratio * rewards).sum(), new)
        return float((before.exp() * ratio).detach().sum()), torch.cat([g.flatten() for g in gradient])

    def test_after_an_update_the_stored_sets_still_give_the_gradient_of_one_fixed_objective(self) -> None:
        new, stored = self.moved(), self.sets(*self.tables())
        gradient = torch.autograd.grad(self.objective(new, stored), new)
        mean_ratio, found = self.surrogate_gradient(recomputed=False)
        assert mean_ratio == pytest.approx(1.0, abs=1e-12)
        assert_close(found, torch.cat([g.flatten() for g in gradient]), rtol=0, atol=1e-12)

    def test_after_an_update_recomputed_sets_do_not(self) -> None:
        stored, afresh = self.sets(*self.tables()), self.sets(*self.moved())
        assert any(not torch.equal(one, other) for one, other in zip(stored, afresh, strict=True))
        mean_ratio, wrong = self.surrogate_gradient(recomputed=True)
        _, right = self.surrogate_gradient(recomputed=False)
        assert abs(mean_ratio - 1) > 0.05  # mass is missing: some of what was sampled is impossible now
        assert bool(wrong.isfinite().all())
        assert float((right - wrong).abs().max()) > 0.05

    def measured(self) -> tuple[list[tuple[int, int]], Tensor, Tensor, Tensor, Tensor]:
        """Completions, and at each of their tokens: reference log-probability, KL, entropy, the policy's [n, 2]."""
        first, second = self.tables()
        tables = (first.detach(), second.detach())
        keeps = self.sets(*tables)
        written = self.completions(keeps)
        hidden, reference, keep = (
            torch.cat([torch.stack([both[0], both[1][a]]) for a, _ in written])
            for both in (tables, self.REFERENCE, keeps)
        )
        tokens = torch.tensor(written).flatten()
        measured = compare_distributions(hidden, reference, tokens, lambda h: h, self.TEMPERATURE, pack(keep), chunk=3)
        ref_logprobs, kl, entropy = (t.view(-1, 2) for t in measured)
        return written, ref_logprobs, kl, entropy, self.logprobs(tables, written, keeps)

    def test_the_reference_is_tempered_and_not_truncated(self) -> None:
        written, ref_logprobs, *_ = self.measured()
        first, second = (torch.log_softmax(table / self.TEMPERATURE, -1) for table in self.REFERENCE)
        for (a, b), found in zip(written, ref_logprobs, strict=True):
            assert_close(found, torch.stack([first[a], second[a, b]]), rtol=0, atol=1e-12)

    def test_kl_and_entropy_are_the_sums_over_the_kept_tokens(self) -> None:
        written, _, kl, entropy, _ = self.measured()
        keeps, tables = self.sets(*self.tables()), self.tables()
        for (a, _), found_kl, found_entropy in zip(written, kl, entropy, strict=True):
            for position, rows in enumerate(
                ((tables[0], keeps[0], self.REFERENCE[0]), (tables[1][a], keeps[1][a], self.REFERENCE[1][a]))
            ):
                policy = [
                    math.exp(z / self.TEMPERATURE) * k for z, k in zip(*(t.tolist() for t in rows[:2]), strict=True)
                ]
                reference = [math.exp(z / self.TEMPERATURE) for z in rows[2].tolist()]
                terms = [
                    (p / sum(policy), math.log(p / sum(policy)), math.log(r / sum(reference)))
                    for p, r in zip(policy, reference, strict=True)
                    if p > 0
                ]
                assert float(found_kl[position]) == pytest.approx(sum(p * (log - ref) for p, log, ref in terms))
                assert float(found_entropy[position]) == pytest.approx(-sum(p * log for p, log, _ in terms), abs=1e-12)
                assert float(found_kl[position]) >= 0

    def test_the_kl_of_whole_completions_is_the_mean_of_k1(self) -> None:
        _, ref_logprobs, kl, _, logprobs = self.measured()
        probabilities = logprobs.sum(1).exp()
        sampled = (probabilities * k1(logprobs, ref_logprobs).sum(1)).sum()
        assert_close((probabilities * kl.sum(1)).sum(), sampled, rtol=0, atol=1e-12)
        assert float(sampled) > 0.05


def test_log_softmax_renormalises_over_the_kept_tokens() -> None:
    # 0.4 and 0.2 of 0.6
    keep = torch.tensor([False, True, False, False, True])
    assert_close(log_softmax(HAND, 1.0, keep).exp(), torch.tensor([0, 2 / 3, 0, 0, 1 / 3], dtype=torch.float64))
    # at temperature 1/2 the odds are squared: 4 to 1
    assert_close(log_softmax(HAND, 0.5, keep).exp(), torch.tensor([0, 0.8, 0, 0, 0.2], dtype=torch.float64))


@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
def test_token_logprobs_and_their_gradient_equal_the_plain_formula(chunk: int) -> None:
    weight, upstream = random(9, 5, seed=1), random(7, seed=2)
    keep = sampling_mask(log_softmax(random(7, 5) @ weight.T, 1.4), 6, 0.9, 0.0)
    assert 1 < int(keep.sum(1).min()) < int(keep.sum(1).max()) < 9
    tokens = keep.double().multinomial(1, generator=torch.Generator().manual_seed(3)).squeeze(1)
    ours, theirs = (random(7, 5).requires_grad_() for _ in range(2))
    logprobs = token_logprobs(ours, tokens, lambda h: h @ weight.T, 1.4, pack(keep), chunk)
    tempered = theirs @ weight.T / 1.4
    expected = tempered[torch.arange(7), tokens] - (tempered.exp() * keep).sum(-1).log()
    assert_close(logprobs, expected, rtol=0, atol=1e-12)
    (logprobs * upstream).sum().backward()
    (expected * upstream).sum().backward()
    assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)
    assert float(theirs.grad.abs().max()) > 0.1


def test_a_set_of_one_token_has_no_gradient() -> None:
    hidden = random(3, 4).requires_grad_()
    keep = torch.eye(4, dtype=torch.bool)[:3]
    logprobs = token_logprobs(hidden, torch.arange(3), lambda h: h, 1.0, pack(keep))
    logprobs.sum().backward()
    assert logprobs.tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(hidden.grad, torch.zeros(3, 4, dtype=torch.float64))


def test_a_token_outside_its_set_is_impossible_and_its_gradient_is_a_number() -> None:
    hidden = random(1, 4).requires_grad_()
    keep = torch.tensor([[True, True, False, False]])
    logprobs = token_logprobs(hidden, torch.tensor([3]), lambda h: h, 1.0, pack(keep))
    assert logprobs.tolist() == [-math.inf]
    logprobs.sum().backward()
    assert bool(hidden.grad.isfinite().all())


def test_the_gradient_of_the_exact_kl_is_a_number() -> None:
    logits, keep = random(5, 6).requires_grad_(), sampling_mask(log_softmax(random(5, 6), 1.0), 3, 1.0, 0.0)
    exact_kl(log_softmax(logits, 1.0, keep), log_softmax(random(5, 6, seed=1), 1.0)).sum().backward()
    assert bool(logits.grad.isfinite().all())
    assert not logits.grad[~keep].any()
    assert float(logits.grad.abs().max()) > 0.05


def test_exactly_the_mass_is_enough_for_top_p() -> None:
    logprobs = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64).log()
    assert sampling_mask(logprobs, None, 0.5, 0.0).tolist() == [True, False, False]
    assert sampling_mask(logprobs, None, 0.75, 0.0).tolist() == [True, True, False]


def test_joining_a_single_group_changes_nothing() -> None:
    one = pack(KEEP)
    assert torch.equal(whole(join([one])), KEEP)
