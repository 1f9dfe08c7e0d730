"""Kills, full disks, NaN, stops and changes, for sft, dpo and reward train: the same bytes, or one line.

The runs are as small as they get; tests/unit/supervised/test_loop.py stops them after every step.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from rlhf_cli.cli import run
from rlhf_cli.runs.disk import DISK
from rlhf_cli.supervised import learning, loop
from tests.processes import start
from tests.support import Outcome, lines

Rlhf = Callable[..., Outcome]

VERBS: Final = {"sft": ("sft",), "dpo": ("dpo",), "reward": ("reward", "train")}
SMALL: Final = (
    "config=tiny", "model.layers=1", "steps=3", "prompts_per_step=4", "evaluate.every=2", "evaluate.prompts=4",
    "checkpoint.every=1", "checkpoint.keep=9", "display=quiet", "sinks=[]", "data=jsonl", "data.max_prompt_tokens=64",
)  # fmt: skip
EXACT: Final = ("metrics.jsonl", "evaluations.jsonl", "result.json", "adapter/adapter_model.safetensors")
KILLED: Final = """
import os, signal
from rlhf_cli.supervised import loop
complete = loop.complete
def killed(run, *given):
    complete(run, *given)
    if run.state.step == 2:
        os.kill(os.getpid(), signal.SIGKILL)
loop.complete = killed
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in EXACT}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Settings that all three verbs take, with rows that are a lesson for each."""
    file = tmp_path_factory.mktemp("given") / "rows.jsonl"
    rows = [
        {"prompt": f"{n} {good}:", "completion": good, "chosen": good, "rejected": "z"}
        for n, good in enumerate("abcdefghijkl")
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (*SMALL, f"data.path={file}")


@pytest.fixture(scope="module", params=VERBS)
def verb(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def command(verb: str, config: tuple[str, ...]) -> tuple[str, ...]:
    return (*VERBS[verb], *config, "run_dir=out")


@pytest.fixture(scope="module")
def whole(command: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbed; leave it as it is."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert run([*command[:-1], f"run_dir={folder}"]) == 0
    return folder


@pytest.mark.case(16)
def test_a_kill_between_two_steps_loses_nothing(
    verb: str, command: tuple[str, ...], whole: Path, rlhf: Rlhf, tmp_path: Path
) -> None:
    process = start(*command, cwd=tmp_path, before=KILLED)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out" / "result.json").exists()
    outcome = rlhf(*VERBS[verb], "resume=out")
    assert outcome.code == 0, outcome.err
    assert contents(tmp_path / "out") == contents(whole)


@pytest.mark.case(24)
def test_a_torn_checkpoint_is_passed_over_and_half_a_line_is_cut(
    verb: str, whole: Path, rlhf: Rlhf, tmp_path: Path
) -> None:
    folder = shutil.copytree(whole, tmp_path / "out")
    (folder / "result.json").unlink()
    torn = folder / "checkpoints" / "step-00000003" / "optimizer.safetensors"
    torn.write_bytes(torn.read_bytes()[:-9])
    with (folder / "metrics.jsonl").open("a") as log:
        log.write('{"step": 4, "lo')
    outcome = rlhf(*VERBS[verb], "resume=out")
    assert outcome.code == 0, outcome.err
    assert "resumed from step 2 (skipped step-00000003" in outcome.err
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=[pytest.mark.case(36), pytest.mark.slow]),  # as any other stop
        pytest.param(signal.SIGTERM, marks=pytest.mark.case(34)),
    ],
)
def test_a_stop_saves_the_last_complete_step_and_names_the_command(
    number: int, verb: str, command: tuple[str, ...], whole: Path, rlhf: Rlhf, tmp_path: Path
) -> None:
    complete = loop.complete

    def stopping(training: Any, *arguments: Any) -> None:
        complete(training, *arguments)
        if training.state.step == 1:
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "complete", stopping)
        outcome = rlhf(*command, "checkpoint.every=99")
    assert outcome.code == 75
    words = " ".join(VERBS[verb])
    assert f"step 1 is saved; continue it by: rlhf {words} resume={tmp_path / 'out'}" in outcome.err
    outcome = rlhf(*VERBS[verb], "resume=out")
    assert outcome.code == 0, outcome.err
    assert contents(tmp_path / "out") == contents(whole)


@pytest.mark.case(32)
def test_a_disk_that_is_full_for_a_while_stops_nothing(
    command: tuple[str, ...], whole: Path, rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = DISK.write

    def refuse(file: Path, content: bytes) -> None:
        if file.parent.name == ".tmp-step-00000002":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, content)

    monkeypatch.setattr(DISK, "write", refuse, raising=False)
    outcome = rlhf(*command, "checkpoint.keep_best=false")
    assert outcome.code == 0, outcome.err
    assert "the checkpoint of step 2 cannot be written: No space left on device" in outcome.err
    assert contents(tmp_path / "out") == contents(whole)


@pytest.mark.case(43)
def test_a_gradient_that_is_not_finite_changes_nothing(
    command: tuple[str, ...], rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = learning.apply, iter(range(99))

    def apply(parameters: dict[str, torch.nn.Parameter], *given: Any) -> dict[str, float]:
        if next(calls) == 1:
            gradient = next(iter(parameters.values())).grad
            assert gradient is not None
            gradient[0, 0] = torch.nan
        return plain(parameters, *given)

    monkeypatch.setattr(learning, "apply", apply)
    outcome = rlhf(*command, "evaluate.every=0")
    assert outcome.code == 0, outcome.err
    assert "step 2 changes nothing: the gradient is not finite; its rows: rows.jsonl:" in outcome.err
    assert [row["skipped"] for row in lines(tmp_path / "out" / "metrics.jsonl")] == [0.0, 1.0, 0.0]


@pytest.mark.case(25)
@pytest.mark.case(26)
def test_changes_that_would_make_another_run_are_refused_in_one_line(
    verb: str, config: tuple[str, ...], whole: Path, rlhf: Rlhf, tmp_path: Path
) -> None:
    folder, words = shutil.copytree(whole, tmp_path / "out"), " ".join(VERBS[verb])
    key = "objective.completion=chosen" if verb == "sft" else "objective.chosen=completion"
    for argv, what in (
        ((*VERBS[verb], "resume=out", "steps=4", "optimizer.lr=0.5"), "optimizer.lr: 0.01 -> 0.5"),
        ((*VERBS[verb], "resume=out", "steps=4", key), key.partition("=")[0]),
        (("train", "resume=out"), f"a run of rlhf {words}, not of rlhf train"),
    ):
        refused(rlhf(*argv), what)
    other = "dpo" if verb == "sft" else "sft"
    outcome = rlhf(*VERBS[verb], "resume=out", "steps=4", f"objective={other}", "resume_allow=[objective]")
    assert outcome.code == 2
    assert outcome.err == f"error: objective={other} is for rlhf {other} (objective); fix: take that verb\n"
    file = Path(config[-1].removeprefix("data.path="))
    rows = file.read_text()
    try:
        file.write_text(rows.replace("0 a:", "0 A:"))
        refused(rlhf(*VERBS[verb], "resume=out", "steps=4"), "the data changed since the run began")
    finally:
        file.write_text(rows)
    assert contents(folder) == contents(whole)


def refused(outcome: Outcome, what: str) -> None:
    assert outcome.code == 5, outcome.err
    assert what in outcome.err.splitlines()[-1]


def test_a_run_of_rlhf_train_is_no_supervised_one(finished: Path, verb: str, rlhf: Rlhf) -> None:
    words = " ".join(VERBS[verb])
    refused(rlhf(*VERBS[verb], f"resume={finished}"), f"a run of rlhf train, not of rlhf {words}")


def test_other_held_out_rows_can_be_allowed_and_are_not_compared(
    config: tuple[str, ...], rlhf: Rlhf, tmp_path: Path
) -> None:
    assert rlhf("sft", *config, "steps=2", "run_dir=out").code == 0
    more = ("steps=4", "evaluate.prompts=3", "resume_allow=[evaluate.prompts,data]")
    outcome = rlhf("sft", "resume=out", *more)
    assert outcome.code == 0, outcome.err
    assert "nothing to compare: data changed after step 2, and the evaluations with it" in outcome.err
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["held_out"], result["before"], result["change"], result["best"]) == (3, {}, {}, 4)
