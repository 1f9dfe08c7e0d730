"""Random streams: golden values, because a change here changes every run in silence."""

from __future__ import annotations

import pytest
import torch

from rlhf_cli.seeding import permutation, seed_for, uniforms


@pytest.mark.parametrize(
    ("arguments", "golden"),
    [
        ((0, "init"), 6808345638127189101),
        ((0, "perm", 0), 3625839037039737807),
        ((7, "rollout", 3, 2, 1), 2721920093086144458),
        ((0, "eval", 0, 0), 3158445271614803579),
        ((0, "held out"), 8747344179986917755),
    ],
)
def test_seeds_are_what_they_always_were(arguments: tuple[int, str], golden: int) -> None:
    assert seed_for(*arguments) == golden


def test_orders_are_what_they_always_were() -> None:
    assert permutation(6, seed_for(0, "perm", 0)) == [5, 1, 0, 3, 4, 2]


def test_uniforms_are_what_they_always_were() -> None:
    golden = [[0.8415680330801684, 0.23409149435357324, 0.4621858289588342]]
    assert uniforms([seed_for(0, "rollout", 0, 0, 0)], 3).tolist() == golden


def test_every_part_of_a_seed_matters() -> None:
    calls = [
        (0, "a", 1, 2),
        (1, "a", 1, 2),
        (0, "b", 1, 2),
        (0, "a", 2, 1),
        (0, "a", 12),
        (0, "a", 1),
        (0, "a"),
        (0, "a", 1, 2, 0),
    ]
    assert len({seed_for(*call) for call in calls}) == len(calls)


def test_seeds_fit_a_signed_64_bit_integer() -> None:
    assert all(0 <= seed_for(0, "x", i) < 2**63 for i in range(200))


def test_a_row_of_uniforms_does_not_depend_on_the_rows_beside_it() -> None:
    together = uniforms([11, 12, 13], 5)
    assert torch.equal(together[1:2], uniforms([12], 5))
    assert not torch.equal(together[0], together[1])


def test_a_longer_row_begins_like_a_shorter_one() -> None:
    assert torch.equal(uniforms([4], 50)[:, :7], uniforms([4], 7))


def test_uniforms_are_float64_in_the_unit_interval_and_cover_it() -> None:
    rows = uniforms(range(20), 500)
    assert (rows.shape, rows.dtype) == ((20, 500), torch.float64)
    assert bool(((rows >= 0) & (rows < 1)).all())
    assert float(rows.mean()) == pytest.approx(0.5, abs=0.012)  # four standard errors of 10,000 draws
    assert float(rows.var()) == pytest.approx(1 / 12, abs=0.003)


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = (permutation(9, 5), uniforms([5], 3).tolist())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert (permutation(9, 5), uniforms([5], 3).tolist()) == first


def test_another_seed_gives_another_order() -> None:
    assert len({tuple(permutation(20, seed)) for seed in range(10)}) == 10
