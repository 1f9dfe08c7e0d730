"""A reward that hangs, raises or returns nonsense: cases 37 to 42, on whole runs.

What else a function can do wrong, and how it is named, is in tests/unit/rewards/execution.
"""

from __future__ import annotations

import json
import math
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.runs.checkpoint import find_newest
from tests.processes import Process, start
from tests.support import Outcome, contents, gone, lines

Rlhf = Callable[..., Outcome]

SHORT = (
    "config=tiny",
    "model.layers=1",
    "steps=4",
    "prompts_per_step=4",
    "samples_per_prompt=4",
    "max_new_tokens=6",
    "evaluate.every=0",
    "checkpoint.every=2",
    "display=plain",
    "run_dir=out",
    "reward=python",
    "reward.function=rewards.py:f",
)

FUNCTION = """
import os, sys, time
def f(prompts, completions):
    with open("calls", "a") as file:  # it outlives the process
        file.write("x")
    calls = os.stat("calls").st_size
    scores = [len(set(text)) / 6 for text in completions]
    {}
    return scores
"""


@pytest.fixture
def train(rlhf: Rlhf, tmp_path: Path) -> Callable[..., Outcome]:
    """`train(line, *overrides)`: a run of four steps whose reward has that line in it."""

    def run(line: str, *overrides: str) -> Outcome:
        (tmp_path / "rewards.py").write_text(FUNCTION.format(line))
        return rlhf("train", *SHORT, *overrides)

    return run


def last(outcome: Outcome) -> str:
    """The error, which is the last line."""
    return outcome.err.splitlines()[-1]


def saved(folder: Path) -> str:
    """The newest checkpoint, verified."""
    found = find_newest(folder / "out" / "checkpoints").folder
    return "" if found is None else found.name


def test_a_reward_of_the_users_trains(train: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = train("print('hello from', calls)", "evaluate.every=4", "evaluate.prompts=4", "evaluate.samples=2")
    assert outcome.code == 0, outcome.err
    assert "note: reward: rewards.py:f runs in a process of its own; what it prints is in reward.log" in outcome.err
    rows = lines(tmp_path / "out" / "metrics.jsonl")
    assert [row["reward/failures"] for row in rows[1:]] == [0] * 4
    assert "hello from" in (tmp_path / "out" / "reward.log").read_text()
    assert "hello from" not in outcome.out + outcome.err


def test_mistakes_that_can_be_seen_at_once_leave_nothing_behind(rlhf: Rlhf, tmp_path: Path) -> None:
    for function, said in (
        ("rewards.py:f", f"error: no such file: {tmp_path}/rewards.py (reward.function); fix: give file.py:function"),
        ("rewards.py", "error: reward.function: must be file.py:function or module:function"),
        ("???", "error: reward.function: must be given"),
    ):
        for verb in ("train", "oracle"):
            options = [option for option in SHORT if "run_dir" not in option]
            outcome = rlhf(verb, *options, f"reward.function={function}")
            assert (outcome.code, outcome.err.startswith(said)) == (2, True), outcome.err
    assert not any(tmp_path.iterdir())


@pytest.mark.case(37)
def test_a_hang_ends_with_a_checkpoint(train: Callable[..., Outcome], tmp_path: Path) -> None:
    began = time.monotonic()
    outcome = train("calls > 3 and time.sleep(99)", "reward.timeout_s=2")
    assert outcome.code == 4
    assert time.monotonic() - began < 60  # of 99
    assert last(outcome).startswith("error: rewards.py:f did not answer within 2 s (reward.timeout_s) (step 4); fix:")
    assert saved(tmp_path) == "step-00000003"
    assert "rewards.py" in (tmp_path / "out" / "reward.log").read_text()  # where it hung


@pytest.mark.case(37)
def test_a_hang_that_passes_costs_a_retry(train: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = train("calls == 2 and time.sleep(99)", "reward.timeout_s=2")
    assert outcome.code == 0, outcome.err
    metrics, timings = (lines(tmp_path / "out" / f"{name}.jsonl") for name in ("metrics", "timings"))
    assert [row["reward/failures"] for row in metrics] == [0] * 4
    assert [row["reward/retries"] for row in timings] == [0, 1, 0, 0]
    before = (tmp_path / "out" / "metrics.jsonl").read_bytes()
    assert train("", "run_dir=smooth").code == 0
    assert (tmp_path / "smooth" / "metrics.jsonl").read_bytes() == before  # a retry leaves no other trace


DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(999)"
NO_THREAD_RUNS = "import re; re.match(r'(a|a)+$', 'a' * 60 + 'b')"


def hanging(folder: Path, line: str) -> tuple[Process, int]:
    """A run whose reward hangs at step 2, and the number of the process in which it does."""
    (folder / "rewards.py").write_text(FUNCTION.format(f"if calls > 1: print(os.getpid()); {line}"))
    run = start("train", *SHORT, cwd=folder)
    log, deadline = folder / "out" / "reward.log", time.monotonic() + 60
    while not (log.is_file() and log.read_text().endswith("\n")):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return run, int(log.read_text())


@pytest.mark.case(37)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_heard_while_the_reward_hangs(number: signal.Signals, tmp_path: Path) -> None:
    run, worker = hanging(tmp_path, DEAF)
    began = time.monotonic()
    run.send_signal(number)
    assert run.stderr is not None
    said = next(line for line in run.stderr if line.startswith("stopped: "))
    assert time.monotonic() - began < 20  # of 999
    assert said == f"stopped: {'SIGTERM' if number == signal.SIGTERM else 'Ctrl-C'}\n"
    assert gone(worker)
    run.communicate(timeout=20)
    assert run.returncode == 75
    assert saved(tmp_path) == "step-00000001"


@pytest.mark.case(37)
def test_a_killed_run_leaves_no_process_behind(tmp_path: Path) -> None:
    run, worker = hanging(tmp_path, NO_THREAD_RUNS)
    run.kill()
    run.communicate()
    assert gone(worker)


@pytest.mark.case(38)
def test_what_raises_is_named(train: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = train("if calls > 3: raise ValueError('no')")
    assert outcome.code == 4, outcome.err
    assert last(outcome).startswith("error: rewards.py:f raised ValueError: no at rewards.py:8 for the completion '")
    assert "(step 4, tiny.jsonl:" in last(outcome)
    assert saved(tmp_path) == "step-00000003"


@pytest.mark.case(39)
def test_no_score_for_any(train: Callable[..., Outcome], tmp_path: Path) -> None:
    line = "if calls > 2: scores = [float('nan')] * len(scores)"
    outcome = train(line, "reward.on_error=mask", "steps=9", "checkpoint.every=9")
    assert outcome.code == 4, outcome.err
    assert outcome.err.count("changes nothing: no prompt has a score for each of its completions; the first") == 3
    assert last(outcome).startswith("error: no prompt has a score for each of its completions; the first failure: ")
    assert " in step 6, and 4 steps in a row changed nothing (max_skipped_steps); fix: mend the reward" in last(outcome)
    assert last(outcome).endswith("newest valid checkpoint: step 2")
    assert [row["skipped"] for row in lines(tmp_path / "out" / "metrics.jsonl")] == [0, 0, 1, 1, 1]


ONE_BAD = "scores[5] = {}  # of the second of four prompts with four completions"


@pytest.mark.case(40)
class TestOneWithoutAScore:
    """What is done about it is the user's choice."""

    def test_the_run_stops(self, train: Callable[..., Outcome], tmp_path: Path) -> None:
        outcome = train(ONE_BAD.format("None"))
        assert outcome.code == 4
        assert last(outcome).startswith("error: rewards.py:f gave None for the completion '")
        assert saved(tmp_path) == "step-00000000"

    def test_its_prompt_is_left_out(self, train: Callable[..., Outcome], tmp_path: Path) -> None:
        outcome = train(ONE_BAD.format("None"), "reward.on_error=mask", "log_samples=16")
        assert outcome.code == 0, outcome.err
        rows, samples = (lines(tmp_path / "out" / f"{name}.jsonl") for name in ("metrics", "samples"))
        assert [row["reward/failures"] for row in rows] == [1] * 4
        assert len(samples) == 4 * 12
        for row in rows:
            scores = [sample["score"] for sample in samples if sample["step"] == row["step"]]
            assert row["reward/mean"] == pytest.approx(sum(scores) / 12)
        notes = [line.removeprefix("note: ") for line in outcome.err.splitlines() if line.startswith("note: step ")]
        assert [note.partition(":")[0] for note in notes] == ["step 1", "step 2", "step 3", "step 4"]
        expected = "1 of 16 completions have no usable score; the first: rewards.py:f gave None for the completion '"
        assert all(expected in note for note in notes)

    def test_it_takes_a_value(self, train: Callable[..., Outcome], tmp_path: Path) -> None:
        outcome = train(
            ONE_BAD.format("float('nan')"), "reward.on_error=value", "reward.error_value=-3", "log_samples=16"
        )
        assert outcome.code == 0, outcome.err
        rows, samples = (lines(tmp_path / "out" / f"{name}.jsonl") for name in ("metrics", "samples"))
        assert [row["reward/failures"] for row in rows] == [1] * 4
        assert [sample["score"] for sample in samples].count(-3.0) == 4


@pytest.mark.case(40)
def test_held_out_prompts_without_a_score_are_left_out_of_both_evaluations(
    train: Callable[..., Outcome], tmp_path: Path
) -> None:
    line = "scores = [None if sorted({*prompts}).index(p) == calls % 4 else s for p, s in zip(prompts, scores)]"
    evaluation = ("evaluate.every=4", "evaluate.prompts=8", "evaluate.samples=2", "prompts_per_step=8")
    outcome = train(line, "reward.on_error=mask", *evaluation)
    assert outcome.code == 0, outcome.err
    first, second = (set(row["prompts"]) for row in lines(tmp_path / "out" / "evaluations.jsonl"))
    assert first != second
    notes = [line.partition(":")[2].partition(":")[0] for line in outcome.err.splitlines() if "no usable score" in line]
    assert notes == [" step 0", " step 1", " step 2", " step 3", " step 4"]  # one each, that with an evaluation too
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["comparison"]["change"]["reward"]["count"] == result["prompts"] == len(first & second) > 1


@pytest.mark.case(40)
def test_a_run_whose_two_evaluations_share_no_prompt_is_finished_all_the_same(
    train: Callable[..., Outcome], tmp_path: Path
) -> None:
    # 8 held-out prompts, 2 completions of each: the second four prompts have scores at first, later the first four
    line = "if len(scores) == 16: scores = [None if (i < 8) == (calls == 1) else s for i, s in enumerate(scores)]"
    evaluation = ("evaluate.every=4", "evaluate.prompts=8", "evaluate.samples=2", "prompts_per_step=8")
    outcome = train(line, "reward.on_error=mask", *evaluation)
    assert outcome.code == 0, outcome.err
    assert [row["prompts"] for row in lines(tmp_path / "out" / "evaluations.jsonl")] == [[4, 5, 6, 7], [0, 1, 2, 3]]
    assert (
        "note: nothing to compare: the first and the last evaluation share 0 prompts with all completions scored"
    ) in outcome.err
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["step"], result["comparison"], result["optimum"]) == (4, None, None)


@pytest.mark.case(41)
def test_scores_without_measure_never_reach_the_weights(train: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = train("if calls > 2: scores[-1] = 1e38")
    assert outcome.code == 4
    assert last(outcome).startswith("error: rewards.py:f gave 1e+38 (the limit is 1e+18) for the completion '")
    assert saved(tmp_path) == "step-00000002"
    assert train("", "resume=auto", "resume_allow=[reward]").code == 0  # mended, the run goes on
    assert [row["step"] for row in lines(tmp_path / "out" / "metrics.jsonl")] == [1, 2, 3, 4]
    assert all(math.isfinite(row["grad_norm"]) for row in lines(tmp_path / "out" / "metrics.jsonl"))


@pytest.mark.case(42)
def test_what_is_no_list_of_scores(train: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = train("scores.pop()", "reward.on_error=mask")  # which is for completions, not for functions
    assert outcome.code == 4
    said, fix = "returned 15 scores for 16 completions", "return a list with one number (or None) for each completion"
    assert last(outcome) == f"error: rewards.py:f {said} (step 1); fix: {fix}; newest valid checkpoint: step 0"
    assert saved(tmp_path) == "step-00000000"


@pytest.mark.case(42)
def test_sys_exit_is_no_end_in_peace(train: Callable[..., Outcome]) -> None:
    outcome = train("sys.exit(0)")
    assert outcome.code == 4
    assert last(outcome).startswith("error: rewards.py:f called sys.exit(0) at rewards.py:8 for the completion '")


@pytest.mark.case(26)
def test_another_source_is_another_run(train: Callable[..., Outcome], rlhf: Rlhf, tmp_path: Path) -> None:
    assert train("", "steps=2").code == 0
    assert train("scores[0] = 9", "steps=2").code == 2  # holds a run already
    outcome = rlhf("train", "resume=out", "steps=4", "display=plain")
    assert outcome.code == 5
    assert last(outcome) == (
        f"error: the reward changed since the run began ({tmp_path}/out); "
        "fix: bring the reward back, start a new run, or allow it: resume_allow=[reward]; "
        "newest valid checkpoint: step 2"
    )
    assert rlhf("train", "resume=out", "steps=4", "resume_allow=[reward]").code == 0
    assert rlhf("train", "resume=out", "steps=5").code == 0  # that one is the run's from then on


@pytest.mark.case(1)
@pytest.mark.case(38)
def test_careless_randomness_is_repeated_even_where_the_reward_failed_and_was_mended(
    train: Callable[..., Outcome], rlhf: Rlhf, tmp_path: Path
) -> None:
    line = "os.path.exists('broken') and len(os.listdir('out/checkpoints')) > 2 and 1 / 0\n"
    line += "    import random; scores = [random.random() for _ in scores]"
    evaluation = ("evaluate.every=2", "evaluate.prompts=4", "evaluate.samples=2")
    assert train(line, *evaluation, "run_dir=two").code == 0
    (tmp_path / "broken").touch()
    assert train(line, *evaluation).code == 4
    assert saved(tmp_path) == "step-00000002"
    (tmp_path / "broken").unlink()
    assert rlhf("train", "resume=out", "display=quiet").code == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "two")
    # an evaluation draws the same numbers every time, a step its own
    first, *others = [row["reward"] for row in lines(tmp_path / "out" / "evaluations.jsonl")]
    assert others == [first, first]
    steps = [row["reward/mean"] for row in lines(tmp_path / "out" / "metrics.jsonl") if row["step"]]
    assert len(set(steps)) == 4


def test_it_is_announced_before_it_runs(train: Callable[..., Outcome], rlhf: Rlhf, tmp_path: Path) -> None:
    few = [option for option in SHORT if "run_dir" not in option]
    assert train("").code == 0
    file = tmp_path / "rewards.py"
    stated = file.read_text()
    file.write_text(f"import sys\nfrom pathlib import Path\nPath('imported').touch()\nsys.exit()\n{stated}")
    for argv, printed in (
        (("train", *few, "run_dir=new"), "in reward.log"),
        (("oracle", *few), "not kept"),
        (("verify-resume", "out"), "not kept"),
    ):
        outcome = rlhf(*argv)
        assert (tmp_path / "imported").exists()
        (tmp_path / "imported").unlink()
        assert outcome.code == 4, outcome.err
        notice = f"note: reward: rewards.py:f runs in a process of its own; what it prints is {printed}"
        assert notice in outcome.err.splitlines()


def test_the_oracle_asks_it_too(rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text(FUNCTION.format("if calls == 1: scores[0] = None"))
    options = [option for option in SHORT if "run_dir" not in option]
    options += ["--samples", "8", "evaluate.prompts=8", "prompts_per_step=1", "--json"]
    outcome = rlhf("oracle", *options)
    assert outcome.code == 4
    assert re.fullmatch(
        r"error: rewards.py:f gave None for the completion '.*' \(oracle, tiny\.jsonl:\d+\); "
        r"fix: mend it, or leave such prompts out: reward\.on_error=mask",
        last(outcome),
    )
    (tmp_path / "calls").unlink()
    outcome = rlhf("oracle", *options, "reward.on_error=mask")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["prompts"] == 7
    assert "1 of 8 prompts are left out" in outcome.err
