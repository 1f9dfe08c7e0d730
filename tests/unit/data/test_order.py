"""Which prompts a step uses."""

from __future__ import annotations

import pytest

from rlhf_cli.data.order import held_out_rows, rows_of_step


def test_the_order_is_what_it_always_was() -> None:
    assert [rows_of_step(step, 5, 3, seed=0) for step in range(4)] == [[2, 1, 3], [0, 4, 4], [1, 2, 3], [0, 1, 3]]


@pytest.mark.parametrize("prompts_per_step", [1, 2, 3, 7, 10, 16])
def test_every_epoch_holds_every_row_once_whatever_the_size_of_a_step(prompts_per_step: int) -> None:
    rows, epochs = 7, 5
    steps = -(-rows * epochs // prompts_per_step)
    flat = [row for step in range(steps) for row in rows_of_step(step, rows, prompts_per_step, seed=3)]
    for epoch in range(epochs):
        assert sorted(flat[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


def test_the_size_of_a_step_only_cuts_the_same_sequence() -> None:
    by_two, by_five = ([row for step in range(10 // n) for row in rows_of_step(step, 6, n, seed=1)] for n in (2, 5))
    assert by_two == by_five


def test_a_step_may_reach_across_the_end_of_an_epoch() -> None:
    first, second = rows_of_step(0, 4, 3, seed=0), rows_of_step(1, 4, 3, seed=0)
    assert sorted(first + second[:1]) == [0, 1, 2, 3]
    assert len(set(second[1:])) == 2


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(rows_of_step(epoch, 30, 30, seed)) for epoch in range(4) for seed in range(4)}
    assert len(orders) == 16


def test_a_step_does_not_depend_on_which_steps_were_asked_for_before() -> None:
    late = rows_of_step(57, 9, 4, seed=2)
    for step in range(57):
        rows_of_step(step, 9, 4, seed=2)
    assert rows_of_step(57, 9, 4, seed=2) == late


def test_held_out_rows_are_what_they_always_were() -> None:
    assert held_out_rows(6, 2, seed=0) == ([1, 3, 4, 5], [0, 2])


@pytest.mark.parametrize("count", [0, 1, 5, 19, 20])
def test_held_out_rows_and_the_others_are_all_rows_in_file_order(count: int) -> None:
    train, held_out = held_out_rows(20, count, seed=4)
    assert len(held_out) == count
    assert sorted(train + held_out) == list(range(20))
    assert (train, held_out) == (sorted(train), sorted(held_out))


def test_another_seed_sets_other_rows_aside() -> None:
    assert len({tuple(held_out_rows(50, 5, seed)[1]) for seed in range(8)}) == 8
