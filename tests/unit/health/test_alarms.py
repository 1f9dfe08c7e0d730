"""When an alarm begins and ends, and what an evaluation adds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlhf_cli.health.alarms import Alarms, Finding, replay
from rlhf_cli.health.course import Concern, Course
from tests.unit.health.samples import CONFIG, evaluation, evaluations, rows


def cut(*steps: range) -> list[dict[str, float]]:
    """A run whose completions are all cut in these steps."""
    return rows(lambda step: {"completion/truncated": 1.0 if any(step in part for part in steps) else 0.0})


def test_an_alarm_begins_with_its_evidence_and_lasts() -> None:
    alarms = Alarms(Course(CONFIG))
    new = [finding for row in cut(range(1, 99)) for finding in alarms.observe(row)]
    evidence = "100% of the completions of 10 steps are cut; 100% in the first 5"
    assert new == [Finding("truncation", 10, evidence, "max_new_tokens=64")]
    assert new[0].line() == f"step 10: truncation: {evidence}; try max_new_tokens=64"
    assert [*alarms.active] == ["truncation"]


def test_an_alarm_ends_after_ten_quiet_steps_and_may_come_back() -> None:
    findings = replay(cut(range(1, 12), range(21, 99)), (), CONFIG).findings()
    assert [(finding.step, finding.until) for finding in findings] == [(10, 12), (29, None)]


def test_a_value_that_wavers_is_one_alarm() -> None:
    wavering = rows(lambda step: {"completion/truncated": 1.0 if step % 8 < 6 else 0.2})
    limit = replay(wavering, (), CONFIG).findings()
    assert limit == []  # 0.8 on average
    wavering = rows(lambda step: {"completion/truncated": 1.0 if step % 12 else 0.0})
    assert [finding.until for finding in replay(wavering, (), CONFIG).findings()] == [None]


def test_an_alarm_of_evaluations_ends_with_the_next_one() -> None:
    longer, as_before = evaluation(20, 0.4, 60, pays=0.1), evaluation(40, 0.5, 28)
    (finding,) = replay(rows(), evaluations(longer, as_before), CONFIG).findings()
    assert (finding.rule, finding.step, finding.until) == ("length hacking", 20, 20)


def test_skipped_steps_do_not_count() -> None:
    skipped = [row | {"skipped": 1.0} if row["step"] > 9 else row for row in cut(range(1, 99))]
    alarms = replay(skipped, (), CONFIG)
    assert (alarms.course.step, alarms.course.learned, alarms.findings()) == (40, 9, [])


def test_a_replay_is_what_was_observed() -> None:
    """A resumed run has the same alarms as one that was never stopped."""
    series, evaluated = cut(range(1, 12), range(21, 99)), evaluations(evaluation(20, 0.4), evaluation(40, 0.1))
    whole, half = replay(series, evaluated, CONFIG), replay(series[:26], evaluated[:2], CONFIG)
    by_step = {one.step: one for one in evaluated}
    for row in series[26:]:
        half.observe(row, by_step.get(int(row["step"])))
    assert half.findings() == whole.findings()
    assert len(whole.findings()) == 3
    assert replace(half.course.trend, count=0) == replace(whole.course.trend, count=0)


@pytest.mark.parametrize(("again", "spans"), [(11, [(1, None)]), (12, [(1, 1), (12, None)])])
def test_nine_quiet_steps_do_not_end_an_alarm_and_ten_do(
    again: int, spans: list[tuple[int, int | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rule(course: Course) -> Concern | None:
        return Concern("a fault", "a=1") if course.step in (1, again) else None

    monkeypatch.setattr("rlhf_cli.health.alarms.STEP_RULES", {"rule": rule})
    findings = replay([{"step": step} for step in range(1, 13)], (), {}).findings()
    assert [(finding.step, finding.until) for finding in findings] == spans
