"""The stretches of a run, the choice among them, and the chance that they meet a change."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from rlhf_cli.verify.audit import Audit, Span, chance, choose, count_needed, find_spans
from rlhf_cli.verify.divergence import Divergence
from rlhf_cli.verify.repeat import Verdict


def at(step: int) -> Path:
    return Path(f"step-{step:08d}")


def spans(*steps: int) -> list[Span]:
    """Stretches with so many steps each."""
    ends = [sum(steps[: n + 1]) for n in range(len(steps))]
    return [Span(at(end - length), at(end)) for end, length in zip(ends, steps, strict=True)]


def test_the_first_stretch_begins_at_the_settings() -> None:
    assert find_spans([at(8), at(0), at(4)], from_start=True) == [Span(None, at(4)), Span(at(4), at(8))]
    assert find_spans([at(1), at(0)], from_start=True) == [Span(None, at(1))]


def test_that_of_a_fork_begins_at_its_oldest_checkpoint() -> None:
    assert find_spans([at(8), at(6), at(4)], from_start=False) == [Span(at(4), at(6)), Span(at(6), at(8))]


def test_a_fork_that_kept_one_checkpoint_has_no_stretch() -> None:
    none = find_spans([at(8)], from_start=False)
    assert (none, choose(none, None, 0), choose(none, 7, 0)) == ([], [], [])
    assert (chance(none, 0), count_needed(none)) == (0, 0)


def test_steps_of_a_stretch() -> None:
    assert [span.steps for span in find_spans([at(4), at(7)], from_start=True)] == [4, 3]


def test_all_stretches_are_equally_likely_and_in_their_order() -> None:
    five = spans(1, 1, 1, 1, 1)
    drawn = [tuple(choose(five, 2, seed)) for seed in range(2000)]
    assert set(drawn) == set(combinations(five, 2))
    assert min(drawn.count(pair) for pair in set(drawn)) > 140  # of 200 expected; 5 standard deviations are 66


@pytest.mark.parametrize(("count", "stretches", "chosen"), [(None, 19, 1), (None, 60, 3), (7, 3, 3), (2, 3, 2)])
def test_a_twentieth_is_chosen_unless_told(count: int | None, stretches: int, chosen: int) -> None:
    assert len(choose(spans(*[1] * stretches), count, seed=0)) == chosen


def test_the_chance_is_that_of_drawing_a_changed_stretch() -> None:
    ten = spans(*[1] * 20)  # two of them changed: 1 - C(18, 3) / C(20, 3) = 1 - 816 / 1140
    assert chance(ten, 3) == pytest.approx(1 - 816 / 1140)
    assert chance(ten, 0) == 0
    assert chance(ten, 19) == 1


def test_the_changes_are_supposed_in_the_longest_stretches() -> None:
    assert chance(spans(8, 1, 1), 1) == pytest.approx(1 / 3)  # one of three holds a tenth by itself
    assert chance(spans(1, 1, 18), 1) == pytest.approx(1 / 3)  # not two short ones, of which there are more to meet
    assert chance(spans(*[1] * 30), 1) == pytest.approx(3 / 30)


def test_a_run_of_880_stretches_costs_a_twentieth() -> None:
    assert count_needed(spans(*[1] * 20)) == 18  # 1 - C(18, 18) / C(20, 18) = 1 - 1 / 190
    assert count_needed(spans(*[1] * 880)) <= 0.05 * 880


def test_a_single_stretch_is_needed_itself() -> None:
    assert count_needed(spans(5)) == 1
    assert count_needed(spans(1, 1)) == 2  # one of the two is changed
    assert count_needed(spans(11, *[1] * 99)) == 99  # with a chance of 99 % exactly


def verdict(first: int, last: int, divergence: Divergence | None = None, completions: int = 2) -> Verdict:
    return Verdict(first, last, last - first + 1, completions, 1, 3, divergence)


def audit(*repeated: Verdict, **files: str) -> Audit:
    return Audit(8, 3, files, repeated, 0.5, 2, 0)


def test_both_ends_of_a_stretch_count() -> None:
    assert audit(verdict(1, 4), verdict(7, 8)).repeated_steps == 6


def test_an_audit_is_clean_where_files_and_stretches_are_the_runs() -> None:
    other = Divergence(7, "scores", "score was 1.0, is 2.0")
    assert audit(verdict(1, 4)).is_clean
    assert not audit(verdict(1, 4), verdict(7, 8, other)).is_clean
    assert not audit(verdict(1, 4), samples="changed").is_clean


def test_what_was_compared() -> None:
    assert verdict(5, 8).describe() == "steps 5-8, 4 metrics lines, 2 completions, 1 evaluation, 3 tensors"
    assert verdict(5, 5, completions=0).describe() == "step 5, 1 metrics line, 1 evaluation, 3 tensors"
