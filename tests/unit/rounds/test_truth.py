"""rounds.truth: paired changes, and what is over-optimisation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_cli.rounds.truth import change, overoptimised_from, read_truth, write_truth
from tests.unit.rounds.samples import truth


def test_a_change_is_paired_by_the_prompts_that_both_have() -> None:
    before, after = truth(0, 0.0, 0.0, 1.0), truth(9, 2.0, 3.0, 1.5)
    found = change(before, after, "true")
    assert (found.mean, found.half_width, found.count) == (pytest.approx(0.5), pytest.approx(0.0, abs=1e-12), 3)
    fewer = replace(after, prompts=[2, 0], kl=[2.0] * 2, proxy=[3.1, 2.9], true=[2.1, 1.9])
    assert change(before, fewer, "true").mean == pytest.approx((2.1 - 1.1 + 1.9 - 0.9) / 2)
    assert change(before, after, "proxy").mean == pytest.approx(3.0)


def test_the_true_reward_falls_while_the_proxy_rises() -> None:
    up, peak, end = truth(0, 0.0, 0.0, 0.0), truth(10, 1.0, 1.0, 1.0), truth(20, 4.0, 2.0, 0.5)
    assert overoptimised_from([up, peak, end]) is peak
    assert overoptimised_from([up, peak]) is None  # still rising
    assert overoptimised_from([up, peak, truth(20, 4.0, 0.9, 0.5)]) is None  # the proxy fell as well
    noisy = replace(end, true=[-0.5, 0.9, 1.2])  # lower by 0.47 in the mean, but not in all prompts alike
    assert overoptimised_from([up, peak, noisy]) is None


def test_a_file_is_read_back_or_counts_as_missing(tmp_path: Path) -> None:
    file, found = tmp_path / "truth.jsonl", [truth(0, 0.0, 0.0, 0.0), truth(10, 1.0, 1.0, 1.0)]
    assert read_truth(file) == []
    write_truth(file, found)
    assert read_truth(file) == found
    whole = file.read_text()
    for edited in (whole[:-5], whole.replace("[0, 1, 2]", "[0, 1]"), whole.replace("[0, 1, 2]", "[]"),
                   whole.replace("[0.0, 0.0, 0.0]", "[0.0, NaN, 0.0]")):  # fmt: skip
        assert edited != whole
        file.write_text(edited)
        assert read_truth(file) == []
