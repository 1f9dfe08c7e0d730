"""Which prompts a step uses."""

from __future__ import annotations

import pytest

from rlhf_cli.data import order
from rlhf_cli.data.order import PartSize


def prompts_of_step(step: int, rows: int, prompts_per_step: int, seed: int) -> list[int]:
    """Of one source."""
    return [row for _, row in order.prompts_of_step(step, (PartSize("", 1.0, rows),), prompts_per_step, seed)]


def test_the_order_is_what_it_always_was() -> None:
    assert [prompts_of_step(step, 5, 3, seed=0) for step in range(4)] == [[2, 1, 3], [0, 4, 4], [1, 2, 3], [0, 1, 3]]


@pytest.mark.parametrize("prompts_per_step", [1, 2, 3, 7, 10, 16])
def test_every_epoch_holds_every_row_once_whatever_the_size_of_a_step(prompts_per_step: int) -> None:
    rows, epochs = 7, 5
    steps = -(-rows * epochs // prompts_per_step)
    flat = [row for step in range(steps) for row in prompts_of_step(step, rows, prompts_per_step, seed=3)]
    for epoch in range(epochs):
        assert sorted(flat[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


def test_the_size_of_a_step_only_cuts_the_same_sequence() -> None:
    by_two, by_five = ([row for step in range(10 // n) for row in prompts_of_step(step, 6, n, seed=1)] for n in (2, 5))
    assert by_two == by_five


def test_a_step_may_reach_across_the_end_of_an_epoch() -> None:
    first, second = prompts_of_step(0, 4, 3, seed=0), prompts_of_step(1, 4, 3, seed=0)
    assert sorted(first + second[:1]) == [0, 1, 2, 3]
    assert len(set(second[1:])) == 2


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(prompts_of_step(epoch, 30, 30, seed)) for epoch in range(4) for seed in range(4)}
    assert len(orders) == 16


def test_a_step_does_not_depend_on_which_steps_were_asked_for_before() -> None:
    late = prompts_of_step(57, 9, 4, seed=2)
    for step in range(57):
        prompts_of_step(step, 9, 4, seed=2)
    assert prompts_of_step(57, 9, 4, seed=2) == late


def test_the_parts_of_a_mixture_take_turns_by_weight() -> None:
    # weight to the next prompt: a 2/1, b 1/1; then 2/2 and 1/1, and the first of equals; then a has 2 of its 2/3 x 3
    found = order.prompts_of_step(0, (PartSize("a", 2.0, 5), PartSize("b", 1.0, 5)), 6, seed=0)
    assert [part for part, _ in found] == [0, 0, 1, 0, 0, 1]


def test_every_part_has_epochs_of_its_own() -> None:
    parts = (PartSize("a", 3.0, 4), PartSize("b", 1.0, 2))
    found = [place for step in range(8) for place in order.prompts_of_step(step, parts, 4, seed=1)]
    for number, rows in enumerate((4, 2)):
        own = [row for part, row in found if part == number]
        assert [sorted(own[i : i + rows]) for i in range(0, len(own), rows)] == [list(range(rows))] * (len(own) // rows)
    assert [place[0] for place in found].count(0) == 24


def test_another_part_does_not_change_the_order_within_a_part() -> None:
    def of_a(*parts: PartSize) -> list[int]:
        found = [place for step in range(9) for place in order.prompts_of_step(step, parts, 5, seed=1)]
        return [row for part, row in found if parts[part].name == "a"][:12]

    a = PartSize("a", 1.0, 6)
    assert of_a(a) == of_a(PartSize("b", 1.0, 3), a) == of_a(a, PartSize("c", 0.5, 9))
    assert of_a(a) != of_a(PartSize("a", 1.0, 7))


def test_a_few_prompts_are_split_by_weight() -> None:
    assert order.split_by_weight([1.0], 5) == [5]
    assert order.split_by_weight([3.0, 1.0], 8) == [6, 2]
    assert order.split_by_weight([9.0, 1.0], 5) == [5, 0]
    assert order.split_by_weight([1.0, 1.0], 0) == [0, 0]
    # behind their shares of two are both; the weights to the next prompt are 2.8 / 3 and 1 / 1
    assert order.split_by_weight([2.8, 1.0], 3) == [2, 1]
    # the first has its share of five, which is 4, and is not behind: its weight to the next prompt would be 8 / 5
    assert order.split_by_weight([8.0, 1.0, 1.0], 5) == [4, 1, 0]
