"""Prompts are dealt in blocks, shards in turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.ranks.dealing import UNITS, deal, deal_units, rank_of


def test_blocks_are_even_and_the_first_are_the_longer_ones() -> None:
    assert deal(8, 2) == [range(4), range(4, 8)]
    assert deal(7, 3) == [range(3), range(3, 5), range(5, 7)]


def test_fewer_prompts_than_shards_leave_no_shard_empty() -> None:
    assert deal(2, 4) == [range(1), range(1, 2)]


@given(prompts=st.integers(1, 40), shards=st.integers(1, 12))
def test_every_prompt_is_dealt_once_in_its_order(prompts: int, shards: int) -> None:
    blocks = deal(prompts, shards)
    assert [number for block in blocks for number in block] == [*range(prompts)]
    assert max(map(len, blocks)) - min(map(len, blocks)) in (0, 1)


def test_the_number_of_units_stays_as_the_bytes_of_saved_runs_depend_on_it() -> None:
    assert UNITS == 4


def test_processes_take_turns() -> None:
    assert [rank_of(shard, 2) for shard in range(5)] == [0, 1, 0, 1, 0]


@given(prompts=st.integers(1, 40), shards=st.integers(1, 8))
def test_units_are_the_same_for_any_number_of_shards(prompts: int, shards: int) -> None:
    dealt = deal_units(prompts, shards, 8)
    assert [unit for units in dealt for unit in units] == [unit for [unit] in deal_units(prompts, 8, 8)]
    assert [number for units in dealt for unit in units for number in unit] == [*range(prompts)]
    assert len(dealt) == min(prompts, shards)
    assert all(len(unit) > 0 for units in dealt for unit in units)


def test_the_longer_units_are_spread_over_the_shards() -> None:
    assert deal_units(10, 2, 4) == [[range(2), range(2, 5)], [range(5, 7), range(7, 10)]]


@pytest.mark.parametrize("units", [0, 2])
def test_with_fewer_units_than_shards_each_shard_is_a_unit(units: int) -> None:
    assert deal_units(7, 3, units) == [[block] for block in deal(7, 3)]
