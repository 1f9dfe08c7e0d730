"""Asked to stop, a run saves its last complete step, says how to go on, and goes on exactly."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.cli import run
from tests.processes import Process, start, start_fresh
from tests.support import QUICK, Outcome, contents, lines

Rlhf = Callable[..., Outcome]

STEPS = 12
RUN = (*QUICK, f"steps={STEPS}", "checkpoint.every=8", "evaluate.every=6", "run_dir=out")
SLOW_STEPS = """
import time
from rlhf_cli.pipeline import rollout
sample = rollout.sample
rollout.sample = lambda *given: time.sleep(0.1) or sample(*given)
"""
"""A run that is still going when it is asked to stop."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the whole run."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert run(["train", *RUN, f"run_dir={folder}"]) == 0
    return contents(folder)


def after_steps(process: Process, folder: Path, steps: int) -> None:
    """Wait until the run has logged that many steps."""
    metrics, deadline = folder / "out" / "metrics.jsonl", time.monotonic() + 60
    while not (metrics.is_file() and len(metrics.read_bytes().splitlines()) > steps):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def newest(folder: Path) -> str:
    return max(path.name for path in (folder / "out" / "checkpoints").glob("step-*"))


@pytest.mark.parametrize(
    ("number", "name"),
    [
        pytest.param(signal.SIGTERM, "SIGTERM", marks=pytest.mark.case(34)),
        pytest.param(signal.SIGUSR1, "SIGUSR1", marks=pytest.mark.case(35)),
        pytest.param(signal.SIGHUP, "SIGHUP", marks=pytest.mark.case(34)),
        pytest.param(signal.SIGINT, "Ctrl-C", marks=pytest.mark.case(36)),
    ],
)
def test_the_last_complete_step_is_saved_and_the_run_goes_on_exactly(
    number: signal.Signals, name: str, uninterrupted: dict[str, bytes], rlhf: Rlhf, tmp_path: Path
) -> None:
    process = start("train", *RUN, cwd=tmp_path, before=SLOW_STEPS)
    after_steps(process, tmp_path, 2)
    sent = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert time.monotonic() - sent < 10
    assert err.splitlines()[-1] == f"stopped: {name}"
    assert "rlhf train resume=" in err
    logged = lines(tmp_path / "out" / "metrics.jsonl")[-1]["step"]
    assert newest(tmp_path) == f"step-{logged:08d}"  # nothing that was complete is lost
    if number == signal.SIGTERM:  # what is saved does not depend on what asked for it
        assert rlhf("train", "resume=out").code == 0
        assert contents(tmp_path / "out") == uninterrupted


def test_an_alarm_stops_a_run_that_may_go_on(uninterrupted: dict[str, bytes], rlhf: Rlhf, tmp_path: Path) -> None:
    """Nearly all of its completions are cut."""
    folder = tmp_path / "out"
    stopped = rlhf("train", *RUN, f"run_dir={folder}", "on_alarm=stop")
    assert stopped.code == 75, stopped.err
    assert "stopped: step 10: truncation: 9" in stopped.err
    assert stopped.err.endswith("; go on with on_alarm=warn\n")
    assert newest(tmp_path) == "step-00000010"
    assert rlhf("train", f"resume={folder}").code == 75
    assert newest(tmp_path) == "step-00000011"
    assert rlhf("train", f"resume={folder}", "on_alarm=warn").code == 0
    assert contents(folder) == uninterrupted


def test_a_rule_ends_a_run_early_the_same_way_each_time_and_it_goes_on_past_it(
    uninterrupted: dict[str, bytes], rlhf: Rlhf, tmp_path: Path
) -> None:
    """8 steps of 8 completions of 4 tokens at most; no evaluation is due then."""
    folder = tmp_path / "out"
    ended = rlhf("train", *RUN, f"run_dir={folder}", "stop.tokens=250", "display=plain")
    assert ended.code == 0, ended.err
    assert "Ended after step 8 by stop.tokens: 2" in ended.out
    assert "resume=out stop.tokens=null\n" in ended.out
    early = contents(folder)
    assert [row["step"] for row in lines(folder / "evaluations.jsonl")] == [0, 6, 8]
    again = rlhf("train", f"resume={folder}", "display=plain")
    assert (again.code, "is finished, nothing was changed" in again.out) == (0, True)
    (folder / "result.json").unlink()  # as if it had been killed before it was written
    assert rlhf("train", f"resume={folder}").code == 0
    assert contents(folder) == early
    assert rlhf("train", f"resume={folder}", "stop.tokens=null").code == 0
    assert contents(folder) == uninterrupted


def test_a_run_that_a_resume_ends_at_a_step_it_has_done_is_evaluated_there(
    uninterrupted: dict[str, bytes], rlhf: Rlhf, tmp_path: Path
) -> None:
    """Evaluations were due after steps 6 and 12: the result would be that of step 6, and the adapter that of step 8."""
    folder = tmp_path / "out"
    assert rlhf("train", *RUN, f"run_dir={folder}").code == 0
    ended = rlhf("train", f"resume={folder}/checkpoints/step-00000008", "steps=8")
    assert ended.code == 0, ended.err
    assert [row["step"] for row in lines(folder / "evaluations.jsonl")] == [0, 6, 8]
    assert json.loads((folder / "result.json").read_text())["step"] == 8
    assert rlhf("train", f"resume={folder}", f"steps={STEPS}").code == 0
    assert contents(folder) == uninterrupted


def test_a_rule_that_is_changed_is_asked_again(rlhf: Rlhf, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert rlhf("train", *RUN, f"run_dir={folder}", "evaluate.every=0", "stop.seconds=0.0001").code == 0
    assert newest(tmp_path) == "step-00000001"
    assert rlhf("train", f"resume={folder}", "stop.seconds=1h", "stop.tokens=40").code == 0
    assert newest(tmp_path) == "step-00000002"
    (row,) = [json.loads(line) for line in rlhf("runs", str(tmp_path), "--json").out.splitlines()]
    assert (row["state"], row["stopped_by"]) == ("finished", "stop.tokens")
    assert row["continue"].endswith(" stop.tokens=null")


@pytest.mark.case(35)
def test_the_time_limit_is_a_stop_as_well(
    uninterrupted: dict[str, bytes], rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rlhf_cli.pipeline.signals as module

    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now.__setitem__(0, now[0] + 0.5) or now[0])
    outcome = rlhf("train", *RUN, "time_limit=0:00:20")  # every look at the clock takes half a second
    assert outcome.code == 75, outcome.err
    assert outcome.err.splitlines()[-1] == "stopped: time limit of 20 s"
    step = lines(tmp_path / "out" / "metrics.jsonl")[-1]["step"]
    assert 1 <= step < STEPS
    assert newest(tmp_path) == f"step-{step:08d}"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert rlhf("train", "resume=out", "time_limit=null").code == 0
    assert contents(tmp_path / "out") == uninterrupted


SLOW_SAVES = """
import time
from rlhf_cli.pipeline.saving import Saver
save = Saver.save
Saver.save = lambda self, state, *given, **more: time.sleep(20 * bool(state.step)) or save(self, state, *given, **more)
"""


@pytest.mark.case(36)
def test_a_second_ctrl_c_leaves_at_once_and_the_run_goes_on_exactly(
    uninterrupted: dict[str, bytes], rlhf: Rlhf, tmp_path: Path
) -> None:
    process = start("train", *RUN, cwd=tmp_path, before=SLOW_STEPS + SLOW_SAVES)
    after_steps(process, tmp_path, 2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert time.monotonic() - sent < 10  # of 20
    assert "Traceback" not in err
    assert newest(tmp_path) == "step-00000000"  # the save was not waited for
    assert rlhf("train", "resume=out").code == 0
    assert contents(tmp_path / "out") == uninterrupted


@pytest.mark.case(74)
@pytest.mark.case(34)
def test_while_the_model_loads_it_stops_at_once(tmp_path: Path) -> None:
    process = start_fresh("train", *RUN, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / ".lock").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err  # there is nothing to resume
    assert err.splitlines()[-1] == "stopped: SIGTERM"
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.case(36)
@pytest.mark.parametrize("display", ["plain", "json"])
def test_where_its_reader_leaves_the_last_complete_step_is_saved(
    display: str, uninterrupted: dict[str, bytes], rlhf: Rlhf, tmp_path: Path
) -> None:
    """`rlhf train 2>&1 | head -5`, or a tee that Ctrl-C ends first."""
    process = start("train", *RUN, f"display={display}", cwd=tmp_path, before=SLOW_STEPS)
    stream = process.stderr if display == "plain" else process.stdout
    assert stream is not None
    for _ in range(5):
        assert stream.readline()
    stream.close()
    assert process.wait(timeout=60) == {"plain": 75, "json": 141}[display]
    for other in (process.stdout, process.stderr):
        assert other is not None
        other.close()
    logged = lines(tmp_path / "out" / "metrics.jsonl")[-1]["step"]
    assert 1 <= logged < STEPS
    assert newest(tmp_path) == f"step-{logged:08d}"
    assert rlhf("train", "resume=out", "display=quiet").code == 0
    assert contents(tmp_path / "out") == uninterrupted
