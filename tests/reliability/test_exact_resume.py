"""Stopped anywhere and resumed: the same bytes as the run that was never interrupted.

Four prompts, two a step: an epoch is two steps, and a run of five ends in its third. Bytes are compared, so the model
is as small as it gets; where the epochs are not the point, the run ends in its second.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.cli import run
from rlhf_cli.pipeline import loop, update
from rlhf_cli.pipeline.run import Run
from rlhf_cli.runs.checkpoint import list_checkpoints, step_of
from tests.processes import start
from tests.support import QUICK, Outcome, contents, lines

Rlhf = Callable[..., Outcome]
Whole = Callable[..., Path]

STEPS, EPOCH = 5, 2
SMALL = (
    "config=tiny", "model.layers=1", f"steps={STEPS}", "prompts_per_step=2", "samples_per_prompt=2", "max_new_tokens=3",
    "data=jsonl", "evaluate.every=2", "evaluate.prompts=2", "evaluate.samples=2", "checkpoint.every=1",
    "checkpoint.keep=99", "display=quiet",
)  # fmt: skip


def given(folder: Path) -> tuple[str, ...]:
    """The config, with the prompts of an epoch to train on and two held-out ones, written into the folder."""
    for name, count in (("train", 2 * EPOCH), ("held-out", 2)):
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps({"prompt": f"Say {name} {n}."}) + "\n" for n in range(count)))
    return (*SMALL, f"data.path={folder / 'train.jsonl'}", f"data.eval_path={folder / 'held-out.jsonl'}")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return given(tmp_path_factory.mktemp("given"))


@pytest.fixture(scope="module")
def whole(config: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The run that was never interrupted, by its overrides: each is made once; leave them as they are."""
    made: dict[tuple[str, ...], Path] = {}

    def of(*overrides: str) -> Path:
        if overrides not in made:
            made[overrides] = tmp_path_factory.mktemp("whole") / "out"
            assert run(["train", *config, *overrides, f"run_dir={made[overrides]}"]) == 0
        return made[overrides]

    return of


@contextmanager
def stopping_after(step: int) -> Iterator[None]:
    """SIGTERM reaches this process as soon as the run has completed the step."""
    complete = loop.complete

    def stopping(run: Run, *arguments: Any) -> None:
        complete(run, *arguments)
        if run.state.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "complete", stopping)
        yield


def stopped_at(stops: Sequence[int], rlhf: Rlhf, config: Sequence[str], overrides: Sequence[str]) -> dict[str, bytes]:
    """What a run leaves behind that is stopped after each of these steps, saves only then, and is resumed each time."""
    command = [*config, *overrides, "checkpoint.every=99", "run_dir=out", "resume=auto"]
    for step in stops:
        with stopping_after(step):
            assert rlhf("train", *command).code == 75
        assert step_of(list_checkpoints(Path("out") / "checkpoints")[0]) == step
    outcome = rlhf("train", *command)
    assert outcome.code == 0, outcome.err
    return contents(Path("out"))


def resumed_from(step: int, rlhf: Rlhf, finished: Path) -> dict[str, bytes]:
    """What a copy of a finished run is after it has gone back to a checkpoint and on from there."""
    shutil.copytree(finished, "out")
    shutil.rmtree("out/adapter")
    Path("out/result.json").unlink()
    outcome = rlhf("train", f"resume=out/checkpoints/step-{step:08d}", "checkpoint.every=99")
    assert outcome.code == 0, outcome.err
    return contents(Path("out"))


def row(name: str, cases: Sequence[int], step: int, *overrides: str, marks: Sequence[Any] = ()) -> Any:
    """One line of the matrix: the step it is resumed from, the overrides, and the cases that it shows."""
    return pytest.param(step, overrides, id=name, marks=[*marks, *(pytest.mark.case(number) for number in cases)])


SLOW = [pytest.mark.slow]
"""For a line whose parts are all in other lines."""


PPO = ("algorithm=ppo", "algorithm.epochs=2", "algorithm.minibatch_size=3")
LIBRARY, RECOMPUTE = "model.engine=transformers", "model.gradient_checkpointing=true"
RUNNING = ("algorithm=reinforce", "algorithm.baseline=running")
FOLLOWING = ("beta=adaptive", "beta.target=0.05")
NORMALISED = ("reward.normalise=true", "reward.length_penalty=0.01")
UNSEEN = ("evaluate.every=0", "log_samples=0")
TRUNCATED = ("kl=exact", "temperature=linear", "top_p=0.9")
ACROSS = ("prompts_per_step=3", "steps=3")
ENDS = ",".join("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
CUT = ("reward.truncated=mask", "algorithm=rloo", "samples_per_prompt=4", f"model.stop=[{ENDS}]")
DYNAMIC = ("prompts=dynamic", "samples_per_prompt=2", "reward.clip=[0,0.01]", "max_rollouts=3")
TWO, FOUR = "steps=3", "steps=4"
"""Two steps after the first, or after the second."""

MATRIX = (
    row("step 0", [], 0),
    row("inside epoch 1, into the next", [3], 1),
    row("at the boundary, right after an evaluation", [5], EPOCH),
    row("inside epoch 2, between two evaluations", [4, 11], 3),
    row("the last step but one", [], 4, marks=SLOW),
    row("inside epoch 2, no baseline", [4], 3, "algorithm=reinforce", "algorithm.baseline=none", marks=SLOW),
    row("inside epoch 2, PPO", [4, 8], 3, *PPO, marks=SLOW),
    row("an even step, PPO", [8], 4, *PPO, marks=SLOW),
    row("at the boundary, GRPO", [5], EPOCH, TWO, "algorithm=grpo", marks=SLOW),
    row("at the second boundary, DAPO", [5], 2 * EPOCH, "algorithm=dapo", "algorithm.minibatch_size=2"),
    row("a step reaches across the boundary next", [3], 1, *ACROSS),
    row("a step has reached across the boundary", [4], 2, *ACROSS, marks=SLOW),
    row("dropout", [9], 1, TWO, "model.lora.dropout=0.1", marks=SLOW),
    row("dropout, PPO in microbatches", [9, 8, 10], 1, TWO, *PPO, "model.lora.dropout=0.1", "microbatch_size=2"),
    row("the library's engine", [], 1, TWO, LIBRARY, marks=SLOW),
    row("the library's engine, PPO", [], 1, TWO, *PPO, LIBRARY, marks=SLOW),
    row("gradient checkpointing", [], 1, TWO, RECOMPUTE, marks=SLOW),
    row("gradient checkpointing, the library's engine, PPO", [], 1, TWO, *PPO, RECOMPUTE, LIBRARY),
    row(
        "microbatches", [10], 1, TWO, "microbatch_size=3", "algorithm=reinforce", "algorithm.baseline=mean", marks=SLOW
    ),
    row("microbatches, PPO", [10, 8], 1, TWO, "microbatch_size=2", *PPO, marks=SLOW),
    row(
        "microbatches, DAPO, adaptive beta",
        [10],
        2,
        FOUR,
        "algorithm=dapo",
        "microbatch_size=3",
        *FOLLOWING,
        marks=SLOW,
    ),
    row("between two measurements of the exact KL", [11], 4, "exact_kl_every=3", "kl=loss_k2"),
    row("never evaluated, the exact KL in the loss, truncated sampling", [], 1, TWO, *UNSEEN, *TRUNCATED),
    row("running baseline", [13], 3, *RUNNING, marks=SLOW),
    row("running baseline, adaptive beta, normalised scores", [13], 2, FOUR, *RUNNING, *FOLLOWING, *NORMALISED),
    row("cut completions do not count", [], 1, TWO, *CUT),
    row("beta with an integral", [13], 2, FOUR, "beta=target", "beta.target=0.05", marks=SLOW),
    row("beta with an integral, PPO", [13], 2, *PPO, "beta=target", "beta.target=0.05"),
)


@pytest.mark.parametrize(("step", "overrides"), MATRIX)
def test_resumed_is_the_same_run(step: int, overrides: tuple[str, ...], rlhf: Rlhf, whole: Whole) -> None:
    finished = whole(*overrides)
    assert resumed_from(step, rlhf, finished) == contents(finished)


@pytest.mark.parametrize(
    ("stops", "overrides"),
    [
        pytest.param((1, 3), (), id="twice", marks=[pytest.mark.case(3), pytest.mark.case(4), pytest.mark.slow]),
        pytest.param((1, 3), (*PPO, "beta=target", "beta.target=0.05"), id="twice, PPO", marks=pytest.mark.case(8)),
        pytest.param((1, 2, 3), (*RUNNING, "prompts=headroom"), id="after every step", marks=pytest.mark.case(13)),
        pytest.param((1, 2, 3, 4), DYNAMIC, id="after every step, dynamic", marks=pytest.mark.case(13)),
    ],
)
def test_stopped_again_and_again_is_the_same_run(
    stops: tuple[int, ...], overrides: tuple[str, ...], rlhf: Rlhf, whole: Whole, config: tuple[str, ...]
) -> None:
    assert stopped_at(stops, rlhf, config, overrides) == contents(whole(*overrides))


@pytest.mark.case(6)
def test_each_epoch_has_an_order_of_its_own_however_often_it_was_preempted(
    rlhf: Rlhf, whole: Whole, config: tuple[str, ...]
) -> None:
    assert stopped_at((EPOCH, 2 * EPOCH), rlhf, config, ()) == contents(whole())
    samples = lines(Path("out/samples.jsonl"))
    orders = [
        [sample["prompt"] for sample in samples if (sample["step"] - 1) // EPOCH == epoch][::2] for epoch in range(3)
    ]
    assert [len(set(order)) for order in orders] == [2 * EPOCH, 2 * EPOCH, EPOCH]
    assert len({tuple(order[:EPOCH]) for order in orders}) == 3


@pytest.mark.case(1)
def test_the_same_config_twice_is_the_same_run(rlhf: Rlhf, whole: Whole, config: tuple[str, ...]) -> None:
    """PPO's twice is in what is stopped again and again."""
    assert rlhf("train", *config, "run_dir=out").code == 0
    assert contents(Path("out")) == contents(whole())
    other = contents(whole("seed=1"))
    assert all(other[name] != content for name, content in contents(Path("out")).items())


@pytest.mark.case(7)
@pytest.mark.case(8)
@pytest.mark.parametrize("updates", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_stopped_between_two_updates_of_a_rollout(
    updates: int, rlhf: Rlhf, whole: Whole, config: tuple[str, ...], tmp_path: Path
) -> None:
    """Four updates a rollout; the signal comes after some of those of step 4, and is heard at the next microbatch."""
    finished, apply, done = whole(*PPO), update.apply, []

    def stopping(*arguments: Any) -> dict[str, float]:
        done.append(apply(*arguments))
        if len(done) == 4 * 3 + updates:
            os.kill(os.getpid(), signal.SIGTERM)
        return done[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update, "apply", stopping)
        assert rlhf("train", *config, *PPO, "checkpoint.every=99", "run_dir=out").code == 75
    assert len(done) == 4 * 3 + updates
    saved = list_checkpoints(tmp_path / "out" / "checkpoints")[0]
    assert step_of(saved) == 3
    for file in saved.glob("*.safetensors"):
        assert file.read_bytes() == (finished / "checkpoints" / saved.name / file.name).read_bytes()
    assert rlhf("train", "resume=out").code == 0
    assert contents(tmp_path / "out") == contents(finished)


@pytest.mark.case(12)
@pytest.mark.parametrize("overrides", [pytest.param((), marks=pytest.mark.slow), PPO], ids=["RLOO", "PPO"])
def test_training_does_not_notice_what_is_evaluated_logged_or_saved(overrides: tuple[str, ...], whole: Whole) -> None:
    never = whole(*overrides, TWO, "evaluate.every=0", "checkpoint.every=3", "log_samples=1")
    often = whole(*overrides, TWO, "evaluate.every=1", "checkpoint.every=99")
    name = "adapter/adapter_model.safetensors"
    assert (never / name).read_bytes() == (often / name).read_bytes()
    trained = [
        {key: value for key, value in metrics.items() if not key.startswith("eval/")}
        for metrics in lines(often / "metrics.jsonl")
    ]
    assert trained == [{"step": 0}, *lines(never / "metrics.jsonl")]
    assert len(lines(often / "evaluations.jsonl")) == 3 + 1


@pytest.mark.case(14)
@pytest.mark.case(11)
def test_what_was_logged_after_the_checkpoint_is_cut_back(rlhf: Rlhf, whole: Whole, tmp_path: Path) -> None:
    """As a kill leaves it: the newest checkpoint is of step 3, the logs go on, and the last line is half written."""
    finished, folder = whole(), tmp_path / "out"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "adapter")
    (folder / "result.json").unlink()
    for checkpoint in list_checkpoints(folder / "checkpoints"):
        if step_of(checkpoint) > 3:
            shutil.rmtree(checkpoint)
    for name in ("metrics", "samples", "evaluations", "timings"):
        with (folder / f"{name}.jsonl").open("ab") as log:
            log.write(b'{"step": 6, "objec')
    outcome = rlhf("train", "resume=out")
    assert outcome.code == 0, outcome.err
    assert outcome.err == "note: resumed from step 3\n"
    assert contents(folder) == contents(finished)
    for name in ("metrics", "timings"):
        assert [line["step"] for line in lines(folder / f"{name}.jsonl")] == list(range(STEPS + 1))


def everything(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file of a run, but for the lock, with its time."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.case(28)
@pytest.mark.parametrize("form", ["run", "checkpoint", "auto"])
def test_a_finished_run_is_left_as_it_is(form: str, rlhf: Rlhf, whole: Whole, config: tuple[str, ...]) -> None:
    finished = whole()
    before = everything(finished)
    last = finished / "checkpoints" / f"step-{STEPS:08d}"
    argv = {"run": [f"resume={finished}"], "checkpoint": [f"resume={last}"],
            "auto": [*config, "resume=auto", f"run_dir={finished}"]}[form]  # fmt: skip
    outcome = rlhf("train", *argv, "display=plain")
    assert outcome.code == 0, outcome.err
    assert "is finished, nothing was changed" in outcome.out
    changed = {path for path, what in everything(finished).items() if before.get(path) != what}
    assert changed <= {path for path in before if path.parent.name == ".hydra"}  # hydra's own record of the command


@pytest.mark.case(29)
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere", "no such folder ({cwd}/nowhere)"),
        ("empty", "no run here ({cwd}/empty)"),
        ("nowhere/checkpoints/step-00000004", "no checkpoint of step 4; there are: none ({cwd}/nowhere)"),
        ("latest", "no unfinished run ({cwd}/outputs)"),
    ],
)
def test_a_resume_that_names_nothing_says_what_it_looked_for(
    target: str, said: str, rlhf: Rlhf, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    outcome = rlhf("train", f"resume={target}")
    assert outcome.code == 5
    assert outcome.err.startswith(f"error: {said.format(cwd=tmp_path)}")
    assert "; fix: name " in outcome.err
    assert outcome.err.count("\n") == 1
    assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]


@pytest.mark.case(30)
@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ((), 2, "holds a run already (run_dir); fix: continue it by resume="),
        (("seed=1",), 2, "holds a run already"),
        (("resume=auto", "seed=1"), 5, "seed: 0 -> 1"),
    ],
)
def test_another_run_in_the_folder_is_refused(
    argv: tuple[str, ...], code: int, said: str, rlhf: Rlhf, whole: Whole, config: tuple[str, ...]
) -> None:
    finished = whole()
    before = everything(finished)
    outcome = rlhf("train", *config, *argv, f"run_dir={finished}")
    assert outcome.code == code
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
    assert everything(finished) == before


@pytest.mark.parametrize("more", [(), ("resume=auto",), ("reward=python", "reward.function=broken.py:f")])
def test_files_of_others_in_the_folder_stay_as_they_are(more: tuple[str, ...], rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"mine": 1}')
    (tmp_path / "broken.py").write_text("1 / 0")
    before = everything(tmp_path)
    outcome = rlhf("train", *QUICK, *more, "run_dir=.")
    assert outcome.code == 2
    assert outcome.err == (
        f"error: {tmp_path} holds config.json, which is no run's, and would be written over (run_dir); "
        "fix: give another folder, as run_dir=outputs/NAME\n"
    )
    assert everything(tmp_path) == before


HELD = """
import os, signal
from rlhf_cli.runs.logbook import JsonlLog
write = JsonlLog.write
def hold(self, row):
    write(self, row)
    if self.file.name == "metrics.jsonl" and row["step"] == 3:
        os.kill(os.getpid(), signal.SIGSTOP)
JsonlLog.write = hold
"""
"""A run that stands still once step 3 is logged."""


@pytest.mark.case(31)
@pytest.mark.case(2)
def test_a_process_holds_its_run_until_it_is_killed_inside_the_first_epoch(
    rlhf: Rlhf, whole: Whole, config: tuple[str, ...], tmp_path: Path
) -> None:
    single = "prompts_per_step=1"  # an epoch is four steps
    process = start("train", *config, single, "checkpoint.every=2", "run_dir=out", cwd=tmp_path, before=HELD)
    metrics, deadline = tmp_path / "out" / "metrics.jsonl", time.monotonic() + 60
    while not (metrics.is_file() and metrics.read_bytes().count(b"\n") > 3):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    try:
        for argv in (("resume=out",), (*config, single, "resume=auto", "run_dir=out")):
            outcome = rlhf("train", *argv)
            assert outcome.code == 2
            assert "another process is working in this run folder" in outcome.err
            assert outcome.err.count("\n") == 1
    finally:
        process.kill()
        process.communicate()
    assert [line["step"] for line in lines(metrics)] == [0, 1, 2, 3]
    outcome = rlhf("train", "resume=out")
    assert outcome.code == 0, outcome.err
    assert "note: resumed from step 2\n" in outcome.err
    assert contents(tmp_path / "out") == contents(whole(single))
