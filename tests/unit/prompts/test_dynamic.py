"""The groups that dynamic sampling keeps, by hand."""

from __future__ import annotations

import pytest
import torch

from rlhf_cli.prompts.dynamic import choose, have_differences

SCORES = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.1, -1.0, -1.0, -1.0])
"""Five groups of three; the second, the fourth and no other have two scores."""


def test_a_group_counts_where_one_score_differs_from_another() -> None:
    assert have_differences(SCORES, 3).tolist() == [False, True, False, True, False]
    assert have_differences(SCORES[:4], 2).tolist() == [False, True]
    assert have_differences(SCORES[:2], 1).tolist() == [False, False]
    assert have_differences(SCORES[:0], 3).tolist() == []
    assert have_differences(torch.tensor([0.1, 0.1 + 7e-9, 0.1, 0.1 + 7e-8]), 2).tolist() == [False, True]  # rounding


@pytest.mark.parametrize(("count", "groups"), [(1, [1]), (2, [1, 3]), (3, [1, 3])])
def test_the_first_that_differ_are_kept_whole(count: int, groups: list[int]) -> None:
    assert choose(SCORES, 3, count).tolist() == [row // 3 in groups for row in range(15)]
