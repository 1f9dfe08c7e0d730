"""`rlhf verify-resume`: the last stretch of a run once more, and what it says where that comes out otherwise."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlhf_cli.engine import opening
from rlhf_cli.errors import UserError
from rlhf_cli.pipeline import loop, update
from rlhf_cli.pipeline.run import Run
from rlhf_cli.rewards.kinds.characters import Characters
from rlhf_cli.runs.binding import write_config
from rlhf_cli.runs.checkpoint import publish
from rlhf_cli.runs.lock import hold
from rlhf_cli.runs.sinks import TensorBoard
from tests.processes import start
from tests.support import Outcome, everything

Rlhf = Callable[..., Outcome]

SHORT = ("config=tiny", "model.layers=1", "steps=6", "prompts_per_step=2", "samples_per_prompt=2", "max_new_tokens=4",
         "display=plain", "checkpoint.every=3", "checkpoint.keep_best=false", "evaluate.every=2", "evaluate.prompts=2",
         "evaluate.samples=2")  # fmt: skip

WAITING = """
import sys, time
from rlhf_cli.pipeline import rollout
def wait(run, drawn):
    print("waiting", file=sys.stderr, flush=True)
    while True:
        time.sleep(0.01)
        run.work.signals.check()
rollout.next_prompts = wait
"""
"""A run whose first step never ends."""


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """However a verification ends, its temporary folder is gone then."""
    folder = tmp_path_factory.mktemp("system")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.glob("rlhf-verify-*")) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PPO run with checkpoints of steps 0, 3 and 6; shared, so leave it as it is."""
    from rlhf_cli.cli import run

    folder = tmp_path_factory.mktemp("finished") / "out"
    ppo = ("algorithm=ppo", "algorithm.minibatch_size=2", "checkpoint.keep=3")
    assert run(["train", *SHORT, *ppo, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def rewritten(checkpoint: Path, change: Callable[[Path], None]) -> None:
    """The checkpoint with other content, and a manifest that says so."""
    change(checkpoint)
    files = {file.name: file.read_bytes() for file in checkpoint.iterdir() if file.name != "MANIFEST.json"}
    shutil.rmtree(checkpoint)
    publish(checkpoint.parent, int(checkpoint.name[-8:]), files)


def test_a_run_is_verified_and_only_read(rlhf: Rlhf, out: Path) -> None:
    before = everything(out)
    outcome = rlhf("verify-resume", "out")
    assert outcome.code == 0, outcome.err
    # Steps 4, 5, 6 with 4 completions each, evaluations after 4 and 6.
    metrics = "steps 4-6, 3 metrics lines, 12 completions, 2 evaluations, "
    newest = out / "checkpoints" / "step-00000006"
    count = sum(len(load_file(file)) for file in newest.glob("*.safetensors"))
    assert outcome.out == f"identical: {metrics}{count} tensors\n"
    assert outcome.err.splitlines()[-1] == "steps 4 to 6 ..."
    assert everything(out) == before


def test_the_repeated_steps_are_on_no_curve(rlhf: Rlhf, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(TensorBoard, "__init__", lambda *given: made.append(given))
    assert rlhf("verify-resume", "out").code == 0
    assert made == []


def test_a_run_that_was_stopped_in_between_is_verified_from_step_0(rlhf: Rlhf, tmp_path: Path) -> None:
    many = ("steps=20", "checkpoint.every=20", "optimizer.schedule=linear", "beta=target")
    complete, steps = loop.complete, []

    def stopping(run: Run, *arguments: Any) -> None:
        complete(run, *arguments)
        steps.append(run.state.step)
        if run.state.step == 3 and len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "complete", stopping)
        assert rlhf("train", *SHORT, *many, "run_dir=out").code == 75
    outcome = rlhf("verify-resume", "out")
    assert outcome.code == 0, outcome.err
    assert "steps 1-3, 4 metrics lines, 12 completions, 2 evaluations" in outcome.out  # of step 0 as well


@pytest.mark.parametrize("quantity", ["completions", "scores", "metrics"])
def test_the_first_thing_that_differs_is_named(
    quantity: str, rlhf: Rlhf, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if quantity == "completions":
        draw = loop.draw
        monkeypatch.setattr(loop, "draw", lambda run, temperature: draw(run, temperature * 3))
        said = "completion 1: completion was"
    elif quantity == "scores":
        score = Characters.score
        monkeypatch.setattr(Characters, "score", lambda self, *given: [s + 1 for s in score(self, *given)])
        said = "completion 1: score was"
    else:
        apply = update.apply
        monkeypatch.setattr(update, "apply", lambda p, o, lr, norm: apply(p, o, lr * 1.01, norm))
        said = "lr was"
    outcome = rlhf("verify-resume", "out")
    assert outcome.code == 5
    error = outcome.err.splitlines()[-1]
    assert error.startswith(f"error: not identical from step 4 on: {quantity}: {said} ")
    assert ("the reward has to" in error) == (quantity == "scores")
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("file", "quantity"), [("adapter_model", "weights"), ("value_head", "weights"), ("optimizer", "optimizer")]
)
def test_tensors_are_compared(file: str, quantity: str, rlhf: Rlhf, out: Path) -> None:
    def change(folder: Path) -> None:
        tensors = load_file(folder / f"{file}.safetensors")
        name = sorted(tensors)[0]
        tensors[name].view(-1)[0] += 1
        save_file(tensors, folder / f"{file}.safetensors")

    rewritten(out / "checkpoints" / "step-00000006", change)
    outcome = rlhf("verify-resume", "out")
    assert outcome.code == 5
    assert f"error: not identical from step 6 on: {quantity}: " in outcome.err
    assert " differs in 1 of " in outcome.err


def test_the_state_is_compared(rlhf: Rlhf, out: Path) -> None:
    def change(folder: Path) -> None:
        state = json.loads((folder / "state.json").read_text())
        (folder / "state.json").write_text(json.dumps(state | {"sampler_gap": 0.5}))

    rewritten(out / "checkpoints" / "step-00000006", change)
    outcome = rlhf("verify-resume", "out")
    assert outcome.code == 5
    assert "step 6 on: state: sampler_gap was 0.5, is " in outcome.err


def test_a_broken_checkpoint_is_passed_over(rlhf: Rlhf, out: Path) -> None:
    newest = out / "checkpoints" / "step-00000006"
    (newest / "state.json").unlink()
    shutil.rmtree(newest.with_name("step-00000000"))
    outcome = rlhf("verify-resume", "out")  # of 3 alone
    assert outcome.code == 5
    assert "two checkpoints are needed: 1 usable; step-00000006: state.json: missing (" in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_passed_over_checkpoint_is_named(rlhf: Rlhf, out: Path) -> None:
    (out / "checkpoints" / "step-00000006" / "state.json").unlink()
    outcome = rlhf("verify-resume", "out")
    assert outcome.code == 0, outcome.err
    assert "note: skipped step-00000006: state.json: missing" in outcome.err
    assert "identical: steps 1-3, 4 metrics lines" in outcome.out


def test_the_threads_are_those_of_one_process_of_the_run(
    rlhf: Rlhf, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which has its part of the machine's where the settings name no number."""
    config = json.loads((out / "config.json").read_text())
    write_config(out, json.dumps(config | {"threads": None, "processes": 2, "shards": 2}))
    seen: list[int] = []
    monkeypatch.setattr(opening, "THREADS", 6)
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    rlhf("verify-resume", "out")
    assert 3 in seen
    assert 6 not in seen


def test_one_step_is_enough(rlhf: Rlhf) -> None:
    assert rlhf("train", *SHORT, "steps=2", "checkpoint.every=1", "evaluate.every=0", "run_dir=out").code == 0
    outcome = rlhf("verify-resume", "out")
    assert outcome.out.startswith("identical: step 2, 1 metrics line, 4 completions, 0 evaluations, "), outcome.err


def test_a_run_that_another_process_works_in(rlhf: Rlhf, out: Path) -> None:
    with hold(out):
        outcome = rlhf("verify-resume", "out")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "another process is working in this run folder" in outcome.err


@pytest.mark.parametrize("lock", [True, False])
def test_a_run_in_a_folder_that_cannot_be_written(
    lock: bool, rlhf: Rlhf, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.open  # root may write everywhere, so the rights are taken away here

    def read_only(self: Path, mode: str = "r", *given: Any, **more: Any) -> Any:
        if out in self.parents and set(mode) & set("wax+"):
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        return plain(self, mode, *given, **more)

    if not lock:
        (out / ".lock").unlink()
    before = everything(out)
    monkeypatch.setattr(Path, "open", read_only)
    outcome = rlhf("verify-resume", "out")
    assert outcome.code == 0, outcome.err
    assert everything(out) == before
    with pytest.raises(OSError, match="Read-only"), hold(out):  # who writes is not let in
        pass


def test_a_run_is_held_by_who_only_reads_it(out: Path) -> None:
    plain = Path.open

    def read_only(self: Path, mode: str = "r", *given: Any, **more: Any) -> Any:
        if mode == "a":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return plain(self, mode, *given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", read_only)
        reader = hold(out, only_read=True)
        reader.__enter__()
    with pytest.raises(UserError, match="another process"), hold(out):
        pass
    reader.__exit__(None, None, None)


def test_a_reward_that_fails_names_no_log_that_will_be_gone(rlhf: Rlhf, tmp_path: Path) -> None:
    file = tmp_path / "rewards.py"
    file.write_text(
        "import os\ndef f(completions):\n    return 1 / 0 if os.path.exists('broken') else [0.5] * len(completions)"
    )
    reward = ("reward=python", "reward.function=rewards.py:f")
    assert rlhf("train", *SHORT, "evaluate.every=0", *reward, "run_dir=out").code == 0
    (tmp_path / "broken").touch()
    outcome = rlhf("verify-resume", "out")
    assert outcome.code == 4
    assert "rewards.py:f raised ZeroDivisionError" in outcome.err
    assert "reward.log" not in outcome.err


def test_a_log_that_was_changed_is_named(rlhf: Rlhf, out: Path) -> None:
    log = out / "samples.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"step": 5', b'"step": 4', 1))
    outcome = rlhf("verify-resume", "out")
    assert outcome.code == 5
    assert "error: samples.jsonl is not what step-00000006 saw" in outcome.err


def test_a_log_that_the_older_checkpoint_did_not_see_so_is_named(rlhf: Rlhf, tmp_path: Path) -> None:
    many = (*SHORT, "checkpoint.keep=9", "run_dir=out")
    assert rlhf("train", *many, "steps=3").code == 0
    log = tmp_path / "out" / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:50])  # a resume keeps that aside, and begins the file anew
    assert rlhf("train", "resume=out", "steps=6").code == 0
    outcome = rlhf("verify-resume", "out")
    assert outcome.code == 5
    assert outcome.err.splitlines()[-1].startswith("error: metrics.jsonl is not what step-00000003 saw (")


def test_data_that_changed_or_is_gone_is_refused_as_a_resume_does(rlhf: Rlhf, tmp_path: Path) -> None:
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"Say {n}."}) + "\n" for n in range(9)))
    assert rlhf("train", *SHORT, "data=jsonl", f"data.path={data}", "run_dir=out").code == 0
    before, text = everything(tmp_path / "out"), data.read_text()
    for content in (text.replace("Say 7.", "Say seven."), None):
        if content is None:
            data.unlink()
        else:
            data.write_text(content)
        verified, resumed = rlhf("verify-resume", "out"), rlhf("train", "resume=out", "steps=8")
        assert verified.code == resumed.code != 0
        last = verified.err.splitlines()[-1]
    assert resumed.err.splitlines()[-1] in (last, f"{last}; newest valid checkpoint: step 6")
    assert everything(tmp_path / "out") == before


def test_nowhere(rlhf: Rlhf) -> None:
    outcome = rlhf("verify-resume", "nowhere")
    assert (outcome.code, outcome.err.count("\n")) == (5, 1)
    assert "no such folder" in outcome.err


def test_ctrl_c_ends_it_without_a_trace(out: Path, tmp_path: Path) -> None:
    system = tmp_path / "system"
    system.mkdir()
    before = everything(out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(system))
        process = start("verify-resume", "out", cwd=tmp_path, before=WAITING)
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line == "waiting\n":
                break
        else:
            raise AssertionError(said)
        process.send_signal(signal.SIGINT)
        out_text, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out_text, err) == (130, "", "stopped: Ctrl-C\n")
    assert list(system.iterdir()) == []
    assert everything(out) == before
