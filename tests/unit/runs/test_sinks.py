"""Curves elsewhere: what is in them, and that they stop nothing."""

from __future__ import annotations

import errno
import hashlib
import json
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.runs import sinks
from rlhf_cli.runs.binding import write_record
from rlhf_cli.runs.sinks import SINKS, Curves, TensorBoard, Trackio, WandB, check_sinks
from rlhf_cli.schema import RunConfig


def test_tensorboard_reads_what_was_written_and_hides_what_a_resume_went_back_behind(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, steps in ((0, (1, 2, 3)), (1, (2,))):
        board = TensorBoard(tmp_path, first, {})
        for step in steps:
            board.write(step, {"reward/mean": 10.0 * first + step, "kl/seq": 0.5})
        board.close()
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert events.Tags()["scalars"] == ["reward/mean", "kl/seq"]
    assert [(point.step, point.value) for point in events.Scalars("reward/mean")] == [(1, 1.0), (2, 12.0)]


class Broken:
    """Breaks at what its config names."""

    def __init__(self, run: Path, first_step: int, config: Mapping[str, Any]) -> None:
        self.at, self.written = config["at"], config["written"]
        if self.at == "open":
            raise ConnectionError("nobody there\nat all")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.at == step:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.written.append(step)

    def close(self) -> None:
        if self.at == "close":
            raise KeyError
        self.written.append("closed")


@pytest.mark.parametrize(
    ("at", "written", "said"),
    [
        (None, [1, 2, 3, "closed"], []),
        ("open", [], ["no curves in one: nobody there"]),
        (2, [1, "closed"], ["the curves in one end before step 2: No space left on device"]),
        ("close", [1, 2, 3], ["the last curves in one may be missing: KeyError"]),
    ],
)
def test_a_sink_that_fails_is_left_out_and_the_others_go_on(
    at: object, written: list[object], said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "SINKS", {"one": Broken, "tensorboard": TensorBoard})
    notes: list[str] = []
    found: list[object] = []
    curves = Curves(("one", "tensorboard"), tmp_path, 0, {"at": at, "written": found}, notes.append)
    for step in (1, 2, 3):
        curves.write(step, {"reward/mean": 1.0})
    curves.close()
    assert (found, notes) == (written, said)
    (file,) = (tmp_path / "tb").iterdir()
    assert file.read_bytes().count(b"reward/mean") == 3


def test_what_is_not_installed_is_said_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(sinks, "find_spec", lambda name: None)
    check_sinks(())
    with pytest.raises(UserError, match="wandb is not installed") as caught:
        check_sinks(("wandb",))
    assert caught.value.line().endswith("(sinks); fix: pip install 'rlhf-cli[wandb]', or leave it out")


def test_the_schema_takes_every_sink() -> None:
    literal, _ = get_args(RunConfig.model_fields["sinks"].annotation)
    assert set(get_args(literal)) == set(SINKS)


def test_the_curves_go_on_in_no_run_but_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb.id of another run, or a flipped bit, would draw these curves over a stranger's."""
    ids: list[object] = []

    def init(**options: object) -> SimpleNamespace:
        ids.append(options["id"])
        settings = {"console": "off", "silent": True, "init_timeout": 20, "finish_timeout": 20}
        assert (options["name"], options["dir"], options["settings"]) == (tmp_path.name, str(tmp_path), settings)
        return SimpleNamespace(define_metric=lambda *names, **options: None, finish=lambda: None)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=dict))
    write_record(tmp_path, {"seed": 0})
    notes: list[str] = []
    for _ in range(2):
        Curves(("wandb",), tmp_path, 0, {}, notes.append).close()
    file = tmp_path / "wandb.id"
    assert ids == [file.read_text()] * 2
    assert not notes
    file.write_text("another")
    Curves(("wandb",), tmp_path, 0, {}, notes.append).close()
    assert len(ids) == 2
    assert len(notes) == 1
    assert notes[0].startswith("no curves in wandb: wandb.id is not what the run wrote")
    file.unlink()  # as if the run were another one there
    Curves(("wandb",), tmp_path, 0, {}, notes.append).close()
    Curves(("wandb",), tmp_path, 0, {}, notes.append).close()
    assert ids[2] == ids[3] == file.read_text() != ids[0]


def test_trackio_gets_the_metrics_alone_by_the_place_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    fake = SimpleNamespace(
        init=lambda **options: told.append(options),
        log=lambda metrics, step: told.append((step, metrics)),
        finish=lambda: told.append("finished"),
    )
    monkeypatch.setitem(sys.modules, "trackio", fake)
    monkeypatch.delenv("TRACKIO_PROJECT", raising=False)
    curves = Curves(("trackio",), tmp_path, 0, {"seed": 3}, told.append)
    curves.write(1, {"reward/mean": 0.5})
    curves.close()
    place = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:6]
    options = {"project": "rlhf", "name": f"{tmp_path.name}-{place}", "resume": "allow", "config": {"seed": 3}}
    options |= {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
    assert told == [options, (1, {"reward/mean": 0.5}), "finished"]


@pytest.mark.slow
def test_wandb_offline_keeps_one_run_over_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for first in (0, 2):
        sink = WandB(tmp_path, first, {"seed": 3})
        sink.write(first + 1, {"reward/mean": 0.5})
        sink.write(first + 2, {"reward/mean": float("nan")})
        sink.close()
        time.sleep(1.1)  # its folders are named by the second
    name = (tmp_path / "wandb.id").read_text()
    files = [*(tmp_path / "wandb").glob(f"offline-run-*-{name}/run-{name}.wandb")]
    assert len(files) == 2
    assert all(b"reward/mean" in file.read_bytes() for file in files)


@pytest.mark.slow
def test_trackio_keeps_one_run_over_a_resume_and_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "kept"))  # it is read when the package is imported
    pytest.importorskip("trackio")
    (tmp_path / "run").mkdir()
    for first in (0, 2):
        sink = Trackio(tmp_path / "run", first, {"seed": 3})
        sink.write(first + 1, {"reward/mean": 0.5})
        sink.close()
    with closing(sqlite3.connect(tmp_path / "kept" / "rlhf.db")) as store:
        rows = store.execute("select run_name, step, metrics from metrics order by step").fetchall()
    store.close()
    assert len({name for name, _, _ in rows}) == 1
    assert [(step, json.loads(metrics)) for _, step, metrics in rows] == [
        (1, {"reward/mean": 0.5}), (3, {"reward/mean": 0.5}),
    ]  # fmt: skip
    assert capsys.readouterr().out == ""
