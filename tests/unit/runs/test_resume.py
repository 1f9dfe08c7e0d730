"""Which run and checkpoint `resume=` means."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rlhf_cli.errors import EXIT_RESUME, Stopped, UserError
from rlhf_cli.runs.binding import write_record
from rlhf_cli.runs.checkpoint import publish
from rlhf_cli.runs.folder import (
    ADAPTER,
    CHECKPOINTS,
    CONFIG,
    HYDRA,
    LOCK,
    METRICS,
    RANKS,
    RECORD,
    REWARD_LOG,
    TENSORBOARD,
)
from rlhf_cli.runs.lock import hold
from rlhf_cli.runs.result import Result
from rlhf_cli.runs.resume import (
    Origin,
    find_adapter,
    find_foreign,
    find_last_stretch,
    find_named,
    find_origin,
    has_run,
    is_exported,
    read_config,
    remove_stub_on_failure,
)
from tests.unit.support import config_fields

files = {"state.json": b"{}"}


def make_run(folder: Path, *steps: int, total: int = 10) -> Path:
    """A run's folder with checkpoints of `steps`."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config_fields(steps=total)))
    for step in steps:
        publish(folder / "checkpoints", step, files)
    return folder


def spoil(run: Path, step: int) -> None:
    (run / "checkpoints" / f"step-{step:08d}" / "state.json").write_text("[]")


def problem(target: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        find_origin(str(target))
    assert caught.value.exit_code == EXIT_RESUME == 5
    return caught.value.line()


class TestFind:
    """The origin of each form of resume=."""

    def test_a_runs_folder_means_its_newest_checkpoint(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", 2, 4, 10)
        origin = find_origin(str(run))
        assert origin == Origin(run, run / "checkpoints/step-00000010", ())
        assert origin.describe() == "resumed from step 10"

    def test_a_bad_checkpoint_is_passed_over_and_named(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", 2, 4, 6)
        spoil(run, 6)
        (run / "checkpoints/step-00000004/state.json").unlink()
        assert find_origin(str(run)).describe() == (
            "resumed from step 2 (skipped step-00000006: state.json: sha256 mismatch) "
            "(skipped step-00000004: state.json: missing)"
        )

    def test_a_checkpoints_folder_means_that_one(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", 2, 4)
        assert find_origin(str(run / "checkpoints/step-00000002")) == Origin(run, run / "checkpoints/step-00000002", ())

    def test_a_bad_checkpoint_that_was_asked_for_is_refused(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", 2, 4)
        spoil(run, 4)
        folder = run / "checkpoints/step-00000004"
        assert problem(folder) == (
            f"the checkpoint cannot be used: state.json: sha256 mismatch ({folder}); "
            "fix: name the run's folder to take an older one"
        )

    def test_a_checkpoint_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", 2, 4)
        assert problem(run / "checkpoints/step-00000009") == (
            f"no checkpoint of step 9; there are: 2, 4 ({run}); "
            "fix: name one of them; a run keeps more by checkpoint.keep=N"
        )

    def test_without_a_valid_checkpoint_there_is_no_silent_restart(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", 2, 4)
        spoil(run, 2)
        spoil(run, 4)
        assert problem(run) == (
            "no usable checkpoint: step-00000004: state.json: sha256 mismatch; "
            f"step-00000002: state.json: sha256 mismatch ({run}); fix: start a new run"
        )

    def test_a_folder_that_is_not_there_is_told_from_one_without_a_run(self, tmp_path: Path) -> None:
        make_run(tmp_path / "my run", 2)
        assert problem(tmp_path / "my rum") == f"no such folder ({tmp_path / 'my rum'}); fix: did you mean my run?"

    @pytest.mark.parametrize("name", ["empty", "without a checkpoint"])
    def test_where_there_is_no_run_there_is_nothing_to_resume(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "empty").mkdir()
        make_run(tmp_path / "without a checkpoint")
        folder = tmp_path / name
        assert problem(folder) == f"no run here ({folder}); fix: name a run's folder, or one of its checkpoints"

    @pytest.mark.parametrize("place", ["my sweep/beta=1", "my sweep/round-1/policy"])
    def test_the_folder_above_runs_says_how_to_find_them(self, tmp_path: Path, place: str) -> None:
        make_run(tmp_path / place, 2)
        folder = tmp_path / "my sweep"
        fix = f"name one of those below it: rlhf runs '{folder}' lists them"
        assert problem(folder) == f"no run here ({folder}); fix: {fix}"

    def test_a_checkpoint_outside_a_run_is_refused(self, tmp_path: Path) -> None:
        folder = publish(tmp_path / "checkpoints", 3, files)
        assert problem(folder).startswith("no run here")

    def test_paths_may_be_relative(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run = make_run(tmp_path / "run", 2)
        monkeypatch.chdir(tmp_path)
        assert find_origin("run/") == Origin(run, run / "checkpoints/step-00000002", ())


class TestLastTwo:
    """Where the last stretch of a run began and ended."""

    def test_the_two_newest(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", 2, 4, 10)
        root = run / "checkpoints"
        assert find_last_stretch(run) == (Origin(run, root / "step-00000004", ()), root / "step-00000010")

    def test_what_cannot_be_used_is_passed_over_and_named_if_it_is_newer(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", 1, 2, 4, 6, 10)
        root = run / "checkpoints"
        for step in (10, 4, 1):
            spoil(run, step)
        reason = "state.json: sha256 mismatch"
        skipped = ((root / "step-00000010", reason), (root / "step-00000004", reason))
        assert find_last_stretch(run) == (Origin(run, root / "step-00000002", skipped), root / "step-00000006")

    def test_one_is_not_enough(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", 2, 4)
        spoil(run, 4)
        with pytest.raises(UserError) as caught:
            find_last_stretch(run)
        assert caught.value.exit_code == EXIT_RESUME
        assert caught.value.line() == (
            "two checkpoints are needed: 1 usable; step-00000004: state.json: sha256 mismatch "
            f"({run}); fix: go on with it: rlhf train resume=RUN"
        )
        (run / "config.json").write_text('{"steps": 4, "objective": {"kind": "sft"}}')
        with pytest.raises(UserError, match="rlhf sft resume=RUN"):
            find_last_stretch(run)


class TestLatest:
    """resume=latest: the newest unfinished run under outputs/."""

    def test_to_read_a_finished_run_is_as_good(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match=r"^no run "):
            find_named("latest")
        old, new = make_run(tmp_path / "outputs/a", 2), make_run(tmp_path / "outputs/b", 10)
        broken = make_run(tmp_path / "outputs/c")
        for age, run in enumerate((broken, new, old)):
            os.utime(run / "config.json", (1e9 - age, 1e9 - age))
        assert find_named("latest") == new
        assert find_named("outputs/latest") == tmp_path / "outputs" / "latest"

    @pytest.fixture
    def outputs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        return tmp_path / "outputs"

    @staticmethod
    def at(run: Path, time: int) -> Path:
        os.utime(run / "config.json", (time, time))
        return run

    @staticmethod
    def finished(run: Path) -> Path:
        (run / "result.json").write_text('{"step": 10}')
        return run

    def test_a_run_that_was_killed_while_it_was_concluded_is_unfinished(self, outputs: Path) -> None:
        run = make_run(outputs / "a", 10)
        assert find_origin("latest").folder == run

    def test_the_newest_unfinished_one(self, outputs: Path) -> None:
        self.at(make_run(outputs / "a" / "1", 2), 100)
        wanted = self.at(make_run(outputs / "b" / "2", 4), 300)
        self.finished(self.at(make_run(outputs / "b" / "3", 10), 400))
        self.at(make_run(outputs / "c"), 500)  # without a checkpoint
        self.at(make_run(outputs / "sweeps" / "x" / "y", 2), 200)
        foreign = make_run(outputs / "foreign", 2)
        (foreign / "config.json").write_text('{"model_type": "llama"}')
        assert find_origin("latest") == Origin(wanted, wanted / "checkpoints/step-00000004", ())

    def test_each_verb_continues_its_own_runs(self, outputs: Path) -> None:
        mine = self.at(make_run(outputs / "a", 2), 100)
        other = make_run(outputs / "b", 2)
        (other / "config.json").write_text('{"steps": 4, "objective": {"kind": "sft"}}')
        self.at(other, 200)
        assert find_origin("latest").folder == mine
        assert find_origin("latest", "sft").folder == other

    def test_one_that_is_at_work_is_passed_over(self, outputs: Path) -> None:
        free = self.at(make_run(outputs / "a", 2), 100)
        busy = self.at(make_run(outputs / "b", 2), 200)
        assert find_origin("latest").folder == busy
        with hold(busy):
            assert find_origin("latest").folder == free
            with hold(free):
                assert problem("latest") == (
                    f"no unfinished run that is not at work ({outputs}); fix: name the run's folder: resume=RUN"
                )

    def test_with_all_runs_finished_there_is_none(self, outputs: Path) -> None:
        self.finished(make_run(outputs / "a", 10))
        assert problem("latest") == f"no unfinished run ({outputs}); fix: name the run's folder: resume=RUN"

    def test_without_outputs_there_is_none(self, outputs: Path) -> None:
        assert problem("latest").startswith("no unfinished run")


def test_a_run_is_a_folder_with_a_config_and_a_checkpoint_valid_or_not(tmp_path: Path) -> None:
    assert not has_run(tmp_path)
    only = make_run(tmp_path / "only a config")
    assert not has_run(only)
    (only / METRICS).write_text("\n")
    assert has_run(only)
    assert has_run(make_run(tmp_path / "run", 0))
    spoil(tmp_path / "run", 0)
    assert has_run(tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()
    assert not has_run(tmp_path / "run")


@pytest.mark.parametrize("name", [CONFIG, "run.json", "samples.jsonl", f"{ADAPTER}/mine.txt", "checkpoints/mine.txt"])
def test_files_of_others_are_found_beside_what_a_start_may_leave(tmp_path: Path, name: str) -> None:
    (tmp_path / HYDRA).mkdir()
    for own in (f"{HYDRA}/config.yaml", LOCK, REWARD_LOG, "report.html", "notes.txt"):
        (tmp_path / own).write_text("{}")
    (tmp_path / METRICS).touch()
    assert find_foreign(tmp_path) is None
    assert find_foreign(tmp_path / "nowhere") is None
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("1")
    assert find_foreign(tmp_path) == name.partition("/")[0]
    (tmp_path / CONFIG).write_text('{"steps": 1, "reward": {}, "algorithm": {}}')  # a start that was killed
    assert find_foreign(tmp_path) is None


def test_a_start_that_was_killed_before_its_settings_left_nothing_foreign(tmp_path: Path) -> None:
    write_record(tmp_path, {"command": ["rlhf"]})
    assert find_foreign(tmp_path) is None


def test_the_saved_config_is_plain_data(tmp_path: Path) -> None:
    assert read_config(make_run(tmp_path / "run")) == config_fields(steps=10)


@pytest.mark.parametrize(
    ("asked", "began_with", "dtype"),
    [
        ("auto", "bfloat16", "bfloat16"),
        ("float32", "bfloat16", "float32"),
        ("auto", "int8", "auto"),
        ("auto", None, "auto"),
    ],
)
def test_the_precision_is_the_one_that_the_run_began_with(
    tmp_path: Path, asked: str, began_with: str | None, dtype: str
) -> None:
    write_record(tmp_path, {"dtype": began_with})
    (tmp_path / CONFIG).write_text(json.dumps({"dtype": asked}))
    assert read_config(tmp_path)["dtype"] == dtype


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"\xff"])
def test_a_config_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"^config\.json cannot be read: .*; fix: name another run$") as caught:
        read_config(tmp_path)
    assert caught.value.exit_code == EXIT_RESUME


def test_an_exported_adapter_is_that_of_its_checkpoint(tmp_path: Path) -> None:
    weights = {"adapter_model.safetensors": b"weights", "adapter_config.json": b"{}"}
    publish(tmp_path / "checkpoints", 3, weights)
    (tmp_path / ADAPTER).mkdir()
    for name, content in weights.items():
        (tmp_path / ADAPTER / name).write_bytes(content)
    (tmp_path / CONFIG).write_text(json.dumps(config_fields(steps=3)))
    Result(step=3, beta=0.1, prompts=0, samples=1, comparison=None, optimum=None, texts=()).write(tmp_path)
    assert find_adapter(tmp_path) == (tmp_path / ADAPTER, tmp_path)
    assert is_exported(tmp_path)
    checkpoint = tmp_path / "checkpoints" / "step-00000003"
    for content, what in ((b"weightz", "is not what the run saved"), (None, "is missing")):
        file = tmp_path / ADAPTER / "adapter_model.safetensors"
        file.write_bytes(content) if content else file.unlink()
        with pytest.raises(UserError) as caught:
            find_adapter(tmp_path)
        assert caught.value.line() == (
            f"adapter_model.safetensors {what} ({tmp_path / ADAPTER}); fix: name the checkpoint: {checkpoint}"
        )
        assert caught.value.exit_code == EXIT_RESUME
        assert not is_exported(tmp_path)
    assert find_adapter(checkpoint) == (checkpoint, tmp_path)


def test_the_adapter_of_a_run_is_its_export_until_the_run_goes_on(tmp_path: Path) -> None:
    """It exported that of step 3 at its end, step 6, and was resumed up to step 8."""
    run = make_run(tmp_path / "run", total=6)
    for step in (3, 6):
        publish(run / "checkpoints", step, {"adapter_model.safetensors": bytes(step)})
    (run / "result.json").write_text('{"task": "sft", "step": 6, "exported": 3}')
    final = run / ADAPTER
    final.mkdir()
    (final / "adapter_model.safetensors").write_bytes(bytes(3))
    assert find_adapter(run) == find_adapter(final) == (final, run)
    assert is_exported(run)
    (final / "adapter_model.safetensors").write_bytes(bytes(4))
    with pytest.raises(UserError, match=r"^adapter_model\.safetensors is not what the run saved") as caught:
        find_adapter(run)
    assert caught.value.fix == f"name the checkpoint: {run / 'checkpoints' / 'step-00000003'}"
    newest = publish(run / "checkpoints", 8, {"adapter_model.safetensors": bytes(8)})
    assert find_adapter(run) == (newest, run)
    assert find_adapter(final) == (final, run)  # of which the newest checkpoint knows nothing
    assert not is_exported(run)
    (run / "result.json").unlink()
    assert find_adapter(run) == (newest, run)


class TestStub:
    """A run that ends before it can be resumed leaves nothing behind."""

    @staticmethod
    def begin(folder: Path) -> None:
        """Leave what a run leaves before its first checkpoint."""
        (folder / HYDRA).mkdir(parents=True)
        for name in (f"{HYDRA}/config.yaml", LOCK, CONFIG, METRICS, REWARD_LOG):
            (folder / name).touch()
        (folder / CHECKPOINTS).mkdir()
        (folder / TENSORBOARD).mkdir()
        (folder / TENSORBOARD / "events.out.tfevents.1.1").touch()

    @pytest.mark.case(65)
    @pytest.mark.case(66)
    @pytest.mark.case(74)
    @pytest.mark.parametrize("ending", [UserError("no"), Stopped("Ctrl-C"), KeyboardInterrupt(), ValueError("a bug")])
    def test_its_folder_is_removed(self, tmp_path: Path, ending: BaseException) -> None:
        self.begin(tmp_path / "out")
        with pytest.raises(type(ending)), remove_stub_on_failure(tmp_path / "out"):
            raise ending
        assert list(tmp_path.iterdir()) == []

    def test_so_is_one_of_several_processes_that_hydra_did_not_begin(self, tmp_path: Path) -> None:
        (tmp_path / "out" / RANKS).mkdir(parents=True)
        for name in (f"{RANKS}/1.log", RECORD):
            (tmp_path / "out" / name).touch()
        with pytest.raises(UserError), remove_stub_on_failure(tmp_path / "out"):
            raise UserError("no")
        assert list(tmp_path.iterdir()) == []

    def test_so_are_more_files_of_the_attempt(self, tmp_path: Path) -> None:
        self.begin(tmp_path / "out")
        (tmp_path / "out" / "my.yaml").touch()
        with pytest.raises(UserError), remove_stub_on_failure(tmp_path / "out", "my.yaml"):
            raise UserError("no")
        assert list(tmp_path.iterdir()) == []

    def test_what_others_wrote_stays(self, tmp_path: Path) -> None:
        self.begin(tmp_path)
        (tmp_path / "notes.txt").touch()
        (tmp_path / REWARD_LOG).write_text("why it failed")
        with pytest.raises(KeyboardInterrupt), remove_stub_on_failure(tmp_path):
            raise KeyboardInterrupt
        assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", REWARD_LOG}

    def test_a_run_stays(self, tmp_path: Path) -> None:
        self.begin(tmp_path)
        (tmp_path / METRICS).write_text("{}\n")
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(KeyboardInterrupt), remove_stub_on_failure(tmp_path):
            raise KeyboardInterrupt
        assert sorted(tmp_path.rglob("*")) == before

    def test_so_does_the_folder_of_a_block_that_ends_well(self, tmp_path: Path) -> None:
        with remove_stub_on_failure(tmp_path):
            self.begin(tmp_path)
        assert (tmp_path / LOCK).exists()


class TestForeignContent:
    """Whatever lies under outputs/ or in a run's folder."""

    @pytest.mark.case(76)
    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b"\xff", b'{"steps": "x"}', b'{"model_type": "llama"}', None]
    )
    def test_a_foreign_config_blocks_nothing(
        self, content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        run = make_run(tmp_path / "outputs" / "run", 2)
        foreign = tmp_path / "outputs" / "foreign" / "config.json"
        foreign.parent.mkdir()
        foreign.symlink_to("nowhere") if content is None else foreign.write_bytes(content)
        assert find_origin("latest") == Origin(run, run / "checkpoints/step-00000002", ())

    @pytest.mark.case(76)
    def test_a_damaged_newer_run_is_passed_over_and_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        make_run(tmp_path / "outputs" / "old", 2)
        newer = make_run(tmp_path / "outputs" / "new", 2) / "config.json"
        newer.write_text("")
        os.utime(newer, (2e9, 2e9))
        assert find_origin("latest").describe() == "resumed from step 2 (skipped new: config.json: not readable)"

    def test_a_run_that_is_named_like_a_checkpoint_is_a_run(self, tmp_path: Path) -> None:
        run = make_run(tmp_path / "step-00000001", 2)
        assert find_origin(str(run)) == Origin(run, run / "checkpoints/step-00000002", ())
        assert find_origin(str(run / "checkpoints/step-00000002")).checkpoint.name == "step-00000002"

    @pytest.mark.parametrize("name", ["samples.jsonl", "config.json", "reward.log", ".config.json.tmp"])
    def test_a_link_in_a_files_place_is_refused(self, name: str, tmp_path: Path) -> None:
        """A stranger's run would otherwise write over any file of the user's."""
        run, mine = make_run(tmp_path / "run", 2), tmp_path / "mine"
        (run / name).unlink(missing_ok=True)
        for path in (run / name, run / "of my own"):
            path.symlink_to(mine)
        with pytest.raises(UserError) as caught:
            find_origin(str(run))
        assert caught.value.line().startswith(f"{name} is a link, and what it leads to would be changed ({run / name})")
        (run / name).unlink()
        if name == "config.json":
            (run / name).write_text("{}")
        find_origin(str(run))  # other links are the user's own business

    def test_a_linked_folder_is_followed_and_named(self, tmp_path: Path) -> None:
        """People keep checkpoints on another disk; a link inside of the run leads nowhere else."""
        run, disk = make_run(tmp_path / "run", 2), tmp_path / "disk"
        (run / "checkpoints").rename(disk)
        (run / "checkpoints").symlink_to(disk)
        (run / "curves").mkdir()
        (run / "tb").symlink_to("curves")
        origin = find_origin(str(run))
        assert origin.checkpoint == run / "checkpoints/step-00000002"
        assert origin.describe() == f"resumed from step 2; checkpoints is a link, written to {disk}"

    @pytest.mark.parametrize("name", ["metrics.jsonl", "run.json", ".lock", "reward.log", "checkpoints"])
    def test_a_pipe_in_a_files_place_is_named(self, name: str, tmp_path: Path) -> None:
        run = make_run(tmp_path / "run", 2) if name != "checkpoints" else make_run(tmp_path / "run")
        os.mkfifo(run / name)
        with pytest.raises(UserError) as caught:
            find_origin(str(run))
        kind = "folder" if name == "checkpoints" else "file"
        assert (caught.value.what, caught.value.exit_code) == (f"{name} is no {kind}", 6)


def test_an_export_whose_checkpoint_is_gone_has_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"task": "sft", "step": 4, "exported": 2}')
    assert not is_exported(tmp_path)
    (tmp_path / "adapter").mkdir()
    assert is_exported(tmp_path)
