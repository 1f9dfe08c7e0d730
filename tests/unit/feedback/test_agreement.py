"""feedback.agreement: against worked examples."""

from __future__ import annotations

import pytest

from rlhf_cli.feedback.agreement import cohen, fleiss

# 10 subjects, 14 raters, 5 categories: the worked example of Fleiss' kappa in many textbooks, kappa = 0.210
TABLE = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip


def test_cohen_by_hand() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 35/50, expected 0.5 * 0.6 + 0.5 * 0.4 = 0.5
    first = "y" * 25 + "n" * 25
    second = "y" * 20 + "n" * 5 + "y" * 10 + "n" * 15
    assert cohen(first, second) == pytest.approx((0.7 - 0.5) / 0.5)


def test_fleiss_from_the_textbook() -> None:
    items = [[name for name, count in zip("abcde", row, strict=True) for _ in range(count)] for row in TABLE]
    assert fleiss(items) == pytest.approx(0.2099, abs=1e-4)


def test_where_nobody_ever_differs_kappa_is_one_or_undefined() -> None:
    assert cohen("ab", "ab") == 1.0
    assert fleiss(["aaa", "bbb"]) == 1.0
    assert cohen("aa", "aa") is None
    assert fleiss(["aaa", "aaa"]) is None


def test_agreement_below_chance_is_negative() -> None:
    assert cohen("ab", "ba") == pytest.approx(-1.0)
    assert fleiss(["ab"]) == pytest.approx(-1.0)
