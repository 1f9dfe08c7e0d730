"""Ranks, rank correlation and quantiles."""

from __future__ import annotations

import math

import pytest

from rlhf_cli.evaluation.ranks import quantile, ranks, spearman


def test_ranks_by_hand() -> None:
    assert ranks([10.0, 30.0, 20.0, 20.0]) == [1.0, 4.0, 2.5, 2.5]
    # of 1, 2, 3 against 1, 3, 2: 1 - 6 (0 + 1 + 1) / (3 * 8)
    assert spearman([1, 2, 3], [10, 30, 20]) == pytest.approx(0.5)
    assert spearman([1, 2, 3], [4, 4, 4]) == spearman([1], [2]) == 0.0


def test_quantiles_by_hand() -> None:
    assert [quantile([4.0, 1.0, 3.0], share) for share in (0, 0.25, 0.5, 0.75, 1)] == [1.0, 2.0, 3.0, 3.5, 4.0]
    assert math.isnan(quantile([], 0.5))
