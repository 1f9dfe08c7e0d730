"""The answer of sweeps made by hand: points, recommendation, what is left out."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_cli.evaluation.contrasts import Contrast, MeanSquares
from rlhf_cli.evaluation.intervals import Estimate
from rlhf_cli.runs.checkpoint import publish
from rlhf_cli.runs.json_files import finite
from rlhf_cli.runs.lock import hold
from rlhf_cli.sweep import reason
from rlhf_cli.sweep.answer import Grid, answer
from rlhf_cli.sweep.choice import Choice
from rlhf_cli.sweep.power import Needed
from rlhf_cli.sweep.reason import explain_no_gain
from rlhf_cli.sweep.record import Ending, SweepRecord, Trial
from tests.unit.support import SHAPING
from tests.unit.sweep.made import OTHER, TABLE, constant, evaluation, two_by_two, write_lines, write_trial


def test_points_by_hand(tmp_path: Path) -> None:
    found = answer(two_by_two(tmp_path))
    assert found.beta == 0.1  # the lower median of 0.1 and 0.2
    assert [point.name for point in found.points] == [f"beta={beta},temperature={t}" for beta, t in TABLE]
    assert [point.number for point in found.points] == [1, 2, 3, 4]
    assert [found.point(number) for number in (2, 5, None)] == [found.points[1], None, None]
    first = found.points[0]
    assert (first.beta, first.temperature, first.trials, len(first.finished)) == ("0.1", "0.7", 2, 2)
    # seeds 0 and 1 have the means 0.60 and 0.61: standard error 0.005, t(1) = 12.706
    assert first.over == "seeds"
    assert (first.reward.mean, first.reward.count) == (pytest.approx(0.605), 2)
    assert first.reward.half_width == pytest.approx(0.06353, rel=1e-3)
    assert (first.kl.mean, first.kl.half_width) == (pytest.approx(2.0), pytest.approx(0.0, abs=1e-12))
    assert [point.objective.mean for point in found.points] == pytest.approx([0.405, 0.425, 0.255, 0.285])
    assert first.length.mean == 8.0
    # the reference has 0.20 and 0.21: every seed gains 0.20
    assert first.change is not None
    assert (first.change.mean, first.change.half_width) == (pytest.approx(0.2), pytest.approx(0.0, abs=1e-9))
    assert [point.pareto for point in found.points] == [True, True, False, True]
    assert [point.above for point in found.points] == [False] * 4


def test_with_one_seed_the_intervals_are_over_prompts(tmp_path: Path) -> None:
    first = answer(two_by_two(tmp_path, seeds=(0,))).points[0]
    # 0.6 -+ 0.1, twice each: standard deviation 0.1155, standard error 0.0577, t(3) = 3.182
    assert first.over == "prompts"
    assert (first.reward.mean, first.reward.count) == (pytest.approx(0.6), 4)
    assert first.reward.half_width == pytest.approx(0.1837, rel=1e-2)


def test_curves_are_at_one_beta(tmp_path: Path) -> None:
    first = answer(two_by_two(tmp_path)).points[0]
    # held-out at step 2: reward (0.205 + 0.605) / 2, KL 1
    assert dict(first.held_out) == pytest.approx({0: 0.205, 2: 0.305, 4: 0.405})
    # 0.1 step - 0.1 * 0.5 step
    assert dict(first.training) == pytest.approx({step: 0.05 * step for step in (1, 2, 3, 4)})


def test_a_clear_choice_and_how_it_moves(tmp_path: Path) -> None:
    found = answer(two_by_two(tmp_path))
    # J at 0.1: 0.42 beats 0.40 at every prompt; at 0.05: 0.50, 0.46, 0.30, 0.29; at 0.2: 0.2, 0.34, 0.15, 0.26
    assert found.recommended == 2
    first, second, *_, last = found.reason
    assert first == "All points are compared at one beta, the lower median of theirs: J = reward - 0.1·KL."
    assert second == (
        "Its J is the highest, +0.425; the next, point 1 (beta=0.1, temperature=0.7), is lower by 0.020 "
        "(95 %: 0.020 to 0.020): a clear difference."
    )
    assert "Over the untouched policy it gains +0.220 ± 0.000 in J, clear among 4 points (Holm's rule)." in found.reason
    assert found.needed is None
    assert last == (
        "At half this beta (0.05) the choice would be point 1 (beta=0.1, temperature=0.7), at twice it (0.2) the same."
    )
    assert found.warnings == ()


def test_within_noise_the_lowest_kl_wins_and_that_is_said(tmp_path: Path) -> None:
    # B - A is 0.02 -+ 0.06 in turn on 4 prompts: standard error 0.0346, t(3) = 3.182: 0.02 +- 0.110
    found = answer(two_by_two(tmp_path / "one", noise=0.06))
    assert found.recommended == 2
    assert found.reason[1] == (
        "Its J is the highest, +0.425; point 1 (beta=0.1, temperature=0.7) is lower by 0.020 (95 %: -0.090 to 0.130), "
        "within one standard error. Of these points it has the lowest KL, 0.80 nats: the simplest policy that is about "
        "as good."
    )
    # at 0.05 A leads by 0.04 -+ 0.06, more than the error
    assert found.reason[-1] == (
        "At half this beta (0.05) the choice would be point 1 (beta=0.1, temperature=0.7), at twice it (0.2) the same."
    )
    # the runs' own beta, 0.05: A leads by 0.04 -+ 0.15, standard error 0.0866: B is chosen
    found = answer(two_by_two(tmp_path / "two", noise=0.15, beta=constant("0.05")))
    assert found.beta == 0.05
    assert found.recommended == 2
    assert found.reason[0] == "The points are compared by J = reward - 0.05·KL, the beta they were trained with."
    assert found.reason[1] == (
        "The highest J, +0.505, is of point 1 (beta=0.1, temperature=0.7); this one is lower by 0.040 "
        "(95 %: -0.236 to 0.316). Of the 2 points within one standard error of the best it has the lowest KL, 0.80 "
        "nats: the simplest policy that is about as good."
    )


def test_seeds_that_were_not_run_are_said(tmp_path: Path) -> None:
    alone, several = answer(two_by_two(tmp_path / "a", seeds=(3,))).reason, answer(two_by_two(tmp_path / "b")).reason
    assert any("one seed cannot say" in one for one in alone)
    assert "a clear difference between these two runs." in alone[1] + alone[2]
    assert any("over the seeds and the prompts" in one for one in several)


def test_where_nothing_gains_nothing_is_recommended(tmp_path: Path) -> None:
    write_trial(tmp_path / "t", [0.1, 0.3, 0.2, 0.2], 0.1)
    found = answer(SweepRecord(tmp_path, "", (Trial("t", {}),)))
    assert found.points[0].name == "the only one"
    assert found.recommended is None
    # changes of J 0, 0, 0.1, -0.1, less 0.005: standard error 0.0408, t(3) = 3.182
    assert found.reason[1] == (
        "Nothing is distinguishable from the untouched policy, so nothing is recommended. The largest change is "
        "-0.005 ± 0.130 in J, of point 1 (the only one)."
    )
    assert found.reason[2] == "As it was, this sweep would have shown a gain of 0.164 or more (80 % of the time)."
    assert found.reason[3].startswith("No gain was seen that more prompts or seeds could confirm: more steps")
    assert found.needed is not None
    # (3.1824 + 0.8416) 0.0408
    assert found.needed.least_gain == pytest.approx(0.16428, rel=1e-3)


def test_what_would_settle_it_is_said(tmp_path: Path) -> None:
    # changes 0.15, 0.05, 0.15, 0.05: 0.1 with an error of 0.0289; (3.182 + 0.842) 0.0289 = 0.1162 is more
    write_trial(tmp_path / "t", [0.25, 0.35, 0.25, 0.35], 0.0)
    one = answer(SweepRecord(tmp_path, "", (Trial("t", {}),)))
    assert one.recommended == 1  # clear, t = 3.46, though as likely as not
    assert one.reason[:3] == (
        "The points are compared by J = reward - 0.05·KL, the beta they were trained with.",
        "It is the only point with a finished trial; its J is +0.300.",
        "Over the untouched policy it gains +0.100 ± 0.092 in J.",
    )
    assert len(one.reason) == 4
    assert one.reason[3].startswith("Each point is one run, and the intervals are over prompts")
    two = SweepRecord(tmp_path, "", (Trial("t", {"k": "1"}), Trial("u", {"k": "2"})))
    write_trial(tmp_path / "u", [0.1, 0.3, 0.1, 0.3], 0.0)  # no change at all
    found = answer(two)
    assert found.recommended is None
    assert found.reason[1].endswith("+0.100 ± 0.092 in J, of point 1 (k=1): clear by itself, but not among so many "
                                    "points (Holm's rule).")  # fmt: skip
    # at 0.025: t(7) = 2.841, so 8 prompts show 0.0752; t(5) = 3.163, and 6 show 0.0944; t(4) = 3.495, and 5 show 0.1120
    assert found.reason[3:5] == (
        "A gain as large as the best one seen, +0.100, would be shown by about 6 held-out prompts (evaluate.prompts; "
        "now 4), or about 6 steps (now 4), if it grew in proportion.",
        "How many seeds it takes, one seed cannot say: seeds=3 shows how much they differ.",
    )


def test_what_would_settle_it_is_said_in_round_numbers(tmp_path: Path) -> None:
    write_trial(tmp_path / "t", [0.1, 0.3, 0.2, 0.2], 0.1)
    point = answer(SweepRecord(tmp_path, "", (Trial("t", {}),))).points[0]

    def said(prompts: int | None, seeds: int | None) -> tuple[str, ...]:
        return explain_no_gain(Needed(0.1, 0.3, prompts, seeds, 123), point, "", (64, 3, 40))[3:5]

    first = "A gain as large as the best one seen, +0.100, would be shown by "
    last = "about 130 steps (now 40), if it grew in proportion."
    assert said(3141, None) == (
        f"{first}about 3200 held-out prompts (evaluate.prompts; now 64), or {last}",
        "Seeds alone would not: the prompts are too few.",
    )
    assert said(None, 12) == (
        f"{first}12 seeds (now 3), or {last}",
        "Prompts alone would not: the seeds differ too much.",
    )


def test_the_points_are_compared_at_the_beta_of_the_record(tmp_path: Path) -> None:
    """`--compare-at` of the training stays in sweep.json, and a later page takes it from there."""
    replace(two_by_two(tmp_path), compare_at=0.4).write()
    sweep = SweepRecord.read(tmp_path)
    assert sweep is not None
    found = answer(sweep)
    assert found.beta == 0.4
    assert found.reason[0] == (
        "All points are compared at one beta, as the first plan or --compare-at fixed it: J = reward - 0.4·KL."
    )


def test_at_another_beta_other_points_may_gain_or_none(tmp_path: Path) -> None:
    # trained at 0.05: a change of 0.1 for 1.2 nats is 0.04 there, 0.07 at half of it, and a loss at twice
    sweep = SweepRecord(tmp_path, "", tuple(Trial(name, {"k": name}) for name in "ab"))
    write_trial(tmp_path / "a", [0.2, 0.4, 0.2, 0.4], 1.2)
    write_trial(tmp_path / "b", [0.1, 0.3, 0.1, 0.3], 0.0)
    found = answer(sweep)
    assert found.recommended == 1
    assert found.reason[-1] == "At half this beta (0.025) the choice would be the same, at twice it (0.1) nothing."


def test_only_what_gains_is_considered(tmp_path: Path) -> None:
    # J 0.9 -+ 0.9 in turn is the highest and not clear; 0.5 everywhere is, and is the only one
    sweep = SweepRecord(tmp_path, "", tuple(Trial(name, {"k": name}) for name in "ab"))
    write_trial(tmp_path / "a", [0.0, 1.8, 0.0, 1.8], 0.0)
    write_trial(tmp_path / "b", [0.4, 0.6, 0.4, 0.6], 0.0)
    found = answer(sweep)
    assert found.recommended == 2
    assert found.reason[1] == "It is the only one of 2 points that clearly gains over the untouched policy."
    assert not any("highest" in sentence or "the only point" in sentence for sentence in found.reason)
    assert "Over the untouched policy it gains +0.300 ± 0.000 in J, clear among 2 points (Holm's rule)." in found.reason


def test_those_that_gain_are_counted(tmp_path: Path) -> None:
    sweep = SweepRecord(tmp_path, "", tuple(Trial(name, {"k": name}) for name in "abc"))
    for name, rewards in (("a", [0.4, 0.6, 0.4, 0.6]), ("b", [0.3, 0.5, 0.3, 0.5]), ("c", [0.1, 0.3, 0.1, 0.3])):
        write_trial(tmp_path / name, rewards, 0.0)
    found = answer(sweep)
    assert found.recommended == 1
    assert found.reason[1:4] == (
        "Considered: the 2 of 3 points that clearly gain over the untouched policy.",
        "Its J is the highest, +0.500; the next, point 2 (k=b), is lower by 0.100 (95 %: 0.100 to 0.100): a clear "
        "difference between these two runs.",
        "The highest of 2 estimates was chosen for being high: if all were equal, it would be too high by about 0.000.",
    )
    assert found.reason[-1] == "The choice would be the same at half this beta (0.025) and at twice it (0.1)."


def test_a_difference_next_to_nothing_has_no_minus() -> None:
    nothing = Contrast(Estimate(0.0004, 0.0008, 2), 1.0, 1.0, MeanSquares(1, 2, 0.0, 0.0, 0.0))
    choice = Choice(0.1, 0, 0, 1, (None, nothing), (), 0.0)
    assert reason._lower(choice, 1) == "lower by 0.000 (95 %: 0.000 to 0.001)"


def test_several_points_about_as_good_are_counted(tmp_path: Path) -> None:
    # J at 0.05, as prompts differ: 2.2; 2.2 - 0.04 +- 0.1 in turn, with an error of 0.0577; and 2.2 - 0.05 +- 0.1
    sweep = SweepRecord(tmp_path, "", tuple(Trial(name, {"k": name}) for name in "abc"))
    for name, level, noise, kl in (("a", 2.2, 0.0, 0.0), ("b", 2.2, 0.1, 1.0), ("c", 2.26, 0.1, 2.0)):
        write_trial(tmp_path / name, [level - 0.1 + noise, level + 0.1 - noise] * 2, kl)
    found = answer(sweep)
    assert found.recommended == 1
    assert found.reason[1] == (
        "Its J is the highest, +2.200; point 3 (k=c) is lower by 0.040 (95 %: -0.144 to 0.224), within one standard "
        "error (1 more too). Of these points it has the lowest KL, 0.00 nats: the simplest policy that is about as "
        "good."
    )


def test_half_the_beta_and_twice_the_beta(tmp_path: Path) -> None:
    # J at 0.2: 0.2, 0.34, 0.15, 0.26; at 0.1 as above; at 0.4: -0.2, 0.18, -0.05, 0.22, of which one gains
    # at a third, 0.067, the first would have 0.467, and at three times, 0.6, none gains
    found = answer(replace(two_by_two(tmp_path), compare_at=0.2))
    assert found.recommended == 2
    assert found.reason[-1] == (
        "At half this beta (0.1) the choice would be the same, at twice it (0.4) point 4 (beta=0.2, temperature=1)."
    )


def test_the_grid_has_every_pair(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path)
    found = answer(sweep)
    assert found.grid == Grid(("beta", "temperature"), ("0.1", "0.2"), ("0.7", "1"), ((1, 3), (2, 4)))
    for trial in sweep.trials[2:4]:
        (tmp_path / trial.name / "result.json").unlink()
    found = answer(sweep)
    assert found.grid is not None
    assert found.grid.numbers == ((1, 3), (None, 4))
    assert [point.number for point in found.points] == [1, 3, 4]
    assert answer(SweepRecord(tmp_path, "", sweep.trials[:4])).grid is None  # one value of beta


def test_points_that_fill_half_of_a_table_have_no_grid(tmp_path: Path) -> None:
    trials = tuple(Trial(f"{n}", {"lr": f"{n}", "beta": "0.1" if n % 2 else "0.2"}) for n in range(4))
    for trial in trials:
        write_trial(tmp_path / trial.name, [0.1, 0.2, 0.3, 0.4], 1.0)
    assert answer(SweepRecord(tmp_path, "", trials)).grid is None
    one_more = Trial("4", {"lr": "0", "beta": "0.1"})
    write_trial(tmp_path / "4", [0.1, 0.2, 0.3, 0.4], 1.0)
    assert answer(SweepRecord(tmp_path, "", (*trials, one_more))).grid is not None


def test_the_references_completions_count_once(tmp_path: Path) -> None:
    # eight trials of two seeds: two completions a seed of each of four prompts, which all seeds share
    found = answer(two_by_two(tmp_path))
    assert found.oracle is not None
    assert (found.oracle.prompts, found.oracle.samples, found.oracle.beta) == (4, 4, 0.1)
    assert found.oracle.best_of[0].reward == pytest.approx(0.205)
    assert not any(point.covered for point in found.oracle.curve)


@pytest.mark.parametrize(
    ("key", "value", "reason", "compared"),
    [
        ("max_new_tokens", 9, "the trials do not share one max_new_tokens", True),
        ("reference", OTHER, "the trials do not share one reference", True),
        ("reward", {"kind": "characters", "characters": "xyz"} | SHAPING, "the trials do not share one task", False),
    ],
)
def test_without_a_common_reference_there_is_no_curve(
    tmp_path: Path, key: str, value: object, reason: str, compared: bool
) -> None:
    sweep = two_by_two(tmp_path)
    file = tmp_path / sweep.trials[0].name / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    found = answer(sweep)
    assert found.oracle is None
    assert found.no_oracle.startswith(reason)
    assert (found.recommended is not None) == compared
    own = "The trials differ in their reference: the KL of each is to its own."
    assert (own in found.warnings) == (key == "reference")


def test_without_completions_of_the_reference_there_is_no_curve(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path, seeds=(0,))
    for trial in sweep.trials:
        file = tmp_path / trial.name / "evaluations.jsonl"
        write_lines(file, [json.loads(line) for line in file.read_text().splitlines()][1:])
    found = answer(sweep)
    assert (found.oracle, found.no_oracle) == (None, "no trial evaluated the reference")
    assert {point.change for point in found.points} == {None}
    assert found.recommended == 2
    assert "The untouched policy was not evaluated: whether any point gains over it is not known." in found.reason


def test_a_point_above_the_optimum_is_named(tmp_path: Path) -> None:
    # 40 completions with rewards 0 and 1 in turn: the optimum at a KL of log 2 has all of the reward, 1.0, and no more
    # the third is above it too, but not clearly: 1.2 -+ 0.6 in turn
    sweep = SweepRecord(tmp_path, "", tuple(Trial(name, {"k": name}) for name in "abc"))
    for name, rewards in (("a", [1.2] * 4), ("b", [0.9] * 4), ("c", [0.6, 1.8, 0.6, 1.8])):
        write_trial(tmp_path / name, rewards, 0.69, beta=constant("0.05"))
        file = tmp_path / name / "evaluations.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows[0] |= {"reward": [[0.0, 1.0] * 40] * 4, "kl": [[0.0] * 80] * 4, "length": [[1] * 80] * 4}
        write_lines(file, rows)
    found = answer(sweep)
    assert [point.above for point in found.points] == [True, False, False]
    assert [warning.partition(":")[0] for warning in found.warnings] == ["point 1 (k=a)"]


def test_trials_that_say_nothing_are_listed_and_left_out(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path, seeds=(0,))
    a, b, c, d = (tmp_path / trial.name for trial in sweep.trials)
    (a / "result.json").unlink()
    Ending(4, "the reward raised KeyError").write(a)
    (a / "log.txt").write_text("...")
    (b / "evaluations.jsonl").write_text('{"step": 4}\n')
    (d / "evaluations.jsonl").write_text("")
    new = Trial("e", {"beta": "0.3", "temperature": "1"})
    (tmp_path / "e").mkdir()
    found = answer(SweepRecord(tmp_path, "", (*sweep.trials, new)))
    assert [point.number for point in found.points] == [3]
    assert [(one.state, one.reason) for one in found.left_out] == [
        ("failed", "the reward raised KeyError"),
        ("unreadable", "evaluations.jsonl: beta: Field required"),
        ("not evaluated", "evaluate.every=2"),
        ("not started", "the same command starts it"),
    ]
    assert [one.log for one in found.left_out] == [a / "log.txt", None, None, None]
    assert found.recommended is None  # at its beta, 0.2, it loses
    assert c.name == found.points[0].finished[0].name


def test_a_trial_that_is_at_work_or_was_stopped_says_so(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path, seeds=(0,))
    first, second, *_ = (tmp_path / trial.name for trial in sweep.trials)
    (second / "result.json").unlink()
    publish(second / "checkpoints", 2, {"state": b"..."})
    with hold(first):
        found = answer(sweep)
    assert [(one.state, one.reason) for one in found.left_out] == [
        ("running", "a process works in it"),
        ("stopped", "before its last step"),
    ]


def test_an_evaluation_of_the_reference_alone_is_none(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path, seeds=(0,))
    file = tmp_path / sweep.trials[0].name / "evaluations.jsonl"
    file.write_text(file.read_text().splitlines(keepends=True)[0])
    assert [one.state for one in answer(sweep).left_out] == ["not evaluated"]


def test_a_kl_that_was_not_measured_is_the_sampled_one(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path, seeds=(0,))
    file = tmp_path / sweep.trials[0].name / "metrics.jsonl"
    write_lines(
        file, [{"step": 1, "reward/mean": 0.5, "kl/seq_k1": 1.0}, {"step": 2, "reward/mean": None, "kl/seq": 1}]
    )
    assert dict(answer(sweep).points[0].training) == pytest.approx({1: 0.4})


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("evaluations.jsonl", json.dumps(evaluation(4, 0.1, [0.5], 1.0) | {"reward": [[None, 1.0]]})),
        ("evaluations.jsonl", json.dumps(evaluation(4, 0.1, [0.5], 1.0) | {"kl": []})),
        ("evaluations.jsonl", json.dumps(evaluation(4, 0.1, [], 1.0))),
        ("evaluations.jsonl", "[1]"),
        ("evaluations.jsonl", '{"step": 4'),
        ("metrics.jsonl", "3"),
        ("config.json", '{"steps": 4, "seed": 0}'),
    ],
)
def test_what_cannot_be_read_says_so(tmp_path: Path, file: str, text: str) -> None:
    sweep = two_by_two(tmp_path, seeds=(0,))
    (tmp_path / sweep.trials[0].name / file).write_text(text)
    found = answer(sweep)
    assert [one.state for one in found.left_out] == ["unreadable"]
    assert len(found.points) == 3


@pytest.mark.parametrize("file", ["evaluations.jsonl", "metrics.jsonl", "config.json"])
def test_a_pipe_in_a_trials_folder_is_not_waited_for(tmp_path: Path, file: str) -> None:
    sweep = two_by_two(tmp_path, seeds=(0,))
    pipe = tmp_path / sweep.trials[0].name / file
    pipe.unlink()
    os.mkfifo(pipe)
    assert [one.state for one in answer(sweep).left_out] == ["unreadable"]


def test_nothing_finished_is_an_answer_too(tmp_path: Path) -> None:
    found = answer(SweepRecord(tmp_path, "rlhf train -m", (Trial("a", {}),)))
    assert (found.points, found.recommended, found.reason) == ((), None, ("No trial is finished and evaluated.",))


def test_different_last_steps_are_a_warning(tmp_path: Path) -> None:
    sweep = two_by_two(tmp_path, seeds=(0,))
    file = tmp_path / sweep.trials[0].name / "evaluations.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    assert answer(sweep).warnings == ("Trials were evaluated last at different steps (2, 4).",)


def test_it_is_plain_data(tmp_path: Path) -> None:
    row = json.loads(json.dumps(finite(answer(two_by_two(tmp_path)).row())))
    assert (row["recommended"], row["beta"], len(row["points"])) == (2, 0.1, 4)
    assert row["points"][1]["name"] == "beta=0.1,temperature=1"
