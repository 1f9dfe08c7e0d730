"""`profile=true`: two steps in RUN/profile, and the run as it would have been."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.pipeline import assemble
from tests.support import Outcome, contents, lines

Rlhf = Callable[..., Outcome]
RUN = ("train", "config=tiny", "evaluate.every=0", "prompts_per_step=1", "samples_per_prompt=2", "max_new_tokens=2",
       "model.layers=1")  # fmt: skip
PHASES = {"rollout", "reward", "reference", "update"}


def traced(folder: Path) -> dict[str, int]:
    """How often each name begins something in the trace."""
    with gzip.open(folder / "profile" / "trace.json.gz", "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") in ("cpu_op", "user_annotation")]
    return {name: names.count(name) for name in set(names)}


def test_two_steps_are_traced_and_nothing_changes(rlhf: Rlhf, tmp_path: Path) -> None:
    assert rlhf(*RUN, "steps=4", "display=quiet", "run_dir=plain").code == 0
    assert not (tmp_path / "plain" / "profile").exists()
    outcome = rlhf(*RUN, "steps=4", "display=quiet", "run_dir=traced", "profile=true")
    assert outcome.code == 0
    assert contents(tmp_path / "traced") == contents(tmp_path / "plain")

    found = traced(tmp_path / "traced")
    assert {name: found.get(name) for name in PHASES} == dict.fromkeys(PHASES, 2)
    assert "trainer" not in found  # the first step alone compares sampler and trainer
    assert found["aten::mul"] > 2
    table = (tmp_path / "traced" / "profile" / "operations.txt").read_text()
    rows = [line for line in table.splitlines() if line.split() and line.split()[-1].isdecimal()]
    assert len(rows) == 10
    file = tmp_path / "traced" / "profile" / "trace.json.gz"
    assert [line for line in outcome.err.splitlines() if "cut at" not in line and "no completion" not in line] == [
        f"note: profiled: open {file} in https://ui.perfetto.dev; in short: operations.txt beside it"
    ]


@pytest.mark.parametrize(("steps", "whole"), [(1, 0), (2, 1)])
def test_a_shorter_run_traces_what_there_is(steps: int, whole: int, rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf(*RUN, f"steps={steps}", "display=quiet", "run_dir=out", "profile=true")
    assert outcome.code == 0
    assert (tmp_path / "out" / "profile").exists() == bool(whole)
    assert ("nothing was profiled" in outcome.err) == (not whole)
    if whole:
        assert traced(tmp_path / "out")["update"] == whole


def test_a_profile_that_cannot_be_written_stops_nothing(rlhf: Rlhf, tmp_path: Path) -> None:
    assert rlhf(*RUN, "steps=1", "display=quiet", "run_dir=out").code == 0
    (tmp_path / "out" / "profile" / "trace.json.gz").mkdir(parents=True)
    outcome = rlhf("train", "resume=out", "steps=3", "display=quiet", "profile=true")
    assert outcome.code == 0
    assert "note: the profile could not be written: Is a directory\n" in outcome.err


def test_a_resumed_run_may_be_profiled(rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rlhf(*RUN, "steps=3", "display=quiet", "run_dir=out").code == 0
    assert rlhf("train", "resume=out", "steps=5", "profile=true").code == 0
    found = traced(tmp_path / "out")
    assert found["update"] == 1  # of steps 4 and 5 the first one warms up
    monkeypatch.delattr(assemble, "Profiler")  # what is only compared is not profiled
    assert rlhf("verify-resume", "out").out.startswith("identical: ")


def test_every_line_of_the_timings_has_every_phase(rlhf: Rlhf, tmp_path: Path) -> None:
    assert rlhf(*RUN, "steps=3", "evaluate.every=2", "evaluate.prompts=4", "display=quiet", "run_dir=out").code == 0
    rows = lines(tmp_path / "out" / "timings.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    always = {f"time/{name}_s" for name in (*PHASES, "checkpoint", "other", "step")}
    for row in rows:
        seconds = {name: value for name, value in row.items() if name.startswith("time/")}
        assert always <= seconds.keys()
        assert min(seconds.values()) >= 0
        whole = seconds.pop("time/step_s")
        assert sum(seconds.values()) == pytest.approx(whole, abs=1e-3)
        assert (row.get("tokens_per_s", 0) > 0) == (row["step"] > 0) == ("tokens_per_s" in row)
    assert [("time/trainer_s" in row, "time/evaluation_s" in row) for row in rows] == [
        (False, True), (True, False), (False, True), (False, True)
    ]  # fmt: skip
    assert rows[0]["time/checkpoint_s"] > 0
    assert rows[0]["time/update_s"] == 0.0
