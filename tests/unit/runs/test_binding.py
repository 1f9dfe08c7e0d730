"""A config.json, a run.json or a result.json that the run did not write is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.runs.binding import (
    CONFIGS,
    bind,
    changed,
    is_own,
    own_hash,
    read_record,
    read_steps_of,
    write_config,
    write_record,
)
from rlhf_cli.runs.checkpoint import publish
from rlhf_cli.runs.resume import read_config
from tests.reliability.crashing import CrashingDisk, Killed

RECORD = {"seed": 0, "data": {"sha256": "ab"}, "model": {"path": "é"}, CONFIGS: []}


def begin(folder: Path, **settings: object) -> Path:
    """A run with a checkpoint of step 2; returns the checkpoint."""
    folder.mkdir(exist_ok=True)
    write_record(folder, RECORD)
    sha256 = write_config(folder, as_text(**settings))
    return publish(folder / "checkpoints", 2, {"state.json": b"{}"}, bound={"config.json": sha256})


def as_text(**settings: object) -> str:
    return json.dumps({"steps": 6, "lr": 0.01} | settings, indent=2) + "\n"


def refused(call: Callable[[], object], file: str) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.exit_code == EXIT_RESUME
    assert caught.value.what == f"{file} is not what the run wrote"
    return caught.value.line()


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place // 8 % len(content)] ^= 1 << place % 8
    file.write_bytes(content)


def json_of(file: Path) -> dict[str, object]:
    try:
        value = json.loads(file.read_bytes())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class TestConfig:
    """config.json is one that the run has had."""

    @pytest.mark.case(61)
    @given(st.integers(0, 10**6))
    def test_a_flipped_bit_is_named(self, tmp_path: Path, place: int) -> None:
        checkpoint = begin(tmp_path)
        flip(tmp_path / "config.json", place)
        refused(lambda: read_config(tmp_path, checkpoint), "config.json")
        refused(lambda: read_config(tmp_path), "config.json")

    def test_an_edit_is_refused_with_the_way_to_change_settings(self, tmp_path: Path) -> None:
        checkpoint = begin(tmp_path)
        (tmp_path / "config.json").write_text(as_text(lr=0.5))
        line = refused(lambda: read_config(tmp_path, checkpoint), "config.json")
        assert line.endswith("or start a new run; settings change on the command line alone")

    @pytest.mark.case(61)
    def test_that_of_another_run_is_refused(self, tmp_path: Path) -> None:
        own, other = tmp_path / "own", tmp_path / "other"
        checkpoint = begin(own)
        begin(other, lr=0.5)
        (own / "config.json").write_bytes((other / "config.json").read_bytes())
        refused(lambda: read_config(own, checkpoint), "config.json")
        (own / "run.json").write_bytes((other / "run.json").read_bytes())
        with pytest.raises(UserError, match=r"^run.json and the checkpoint are not of one run \(.*step-00000002\)"):
            read_config(own, checkpoint)
        (own / "run.json").unlink()
        refused(lambda: read_config(own, checkpoint), "config.json")

    def test_every_one_that_the_run_has_had_goes_with_every_checkpoint(self, tmp_path: Path) -> None:
        first = begin(tmp_path)
        sha256 = write_config(tmp_path, as_text(steps=9))
        second = publish(tmp_path / "checkpoints", 4, {"state.json": b"{}"}, bound={"config.json": sha256})
        for checkpoint in (first, second):
            assert read_config(tmp_path, checkpoint)["steps"] == 9
        (tmp_path / "config.json").write_text(as_text())
        assert read_config(tmp_path, second)["steps"] == 6

    def test_an_earlier_commits_run_is_read_and_bound_from_then_on(self, tmp_path: Path) -> None:
        (tmp_path / "run.json").write_text(json.dumps({"seed": 0}))
        (tmp_path / "config.json").write_text(as_text())
        checkpoint = publish(tmp_path / "checkpoints", 2, {"state.json": b"{}"})
        assert read_config(tmp_path, checkpoint)["steps"] == 6
        write_config(tmp_path, as_text(steps=9))
        assert read_config(tmp_path, checkpoint)["steps"] == 9
        (tmp_path / "config.json").write_text(as_text(steps=7))
        refused(lambda: read_config(tmp_path, checkpoint), "config.json")

    @pytest.mark.parametrize("earlier", [False, True])
    def test_a_kill_or_a_power_cut_at_any_instant_leaves_one_that_is_read(self, earlier: bool, tmp_path: Path) -> None:
        cuts = (None, *product([True, False], repeat=2))
        seen = set()
        for number, (at, fault, cut) in enumerate(product(range(9), ("killed", "torn"), cuts)):
            folder = tmp_path / str(number)
            checkpoint = begin(folder)
            if earlier:
                (folder / "run.json").write_text(json.dumps({"seed": 0}))
            disk = CrashingDisk(at, fault)  # type: ignore[arg-type]
            with suppress(Killed):
                write_config(folder, as_text(steps=9), disk)
            if cut is not None:
                disk.cut_power(empty=cut[0], undo=cut[1])
            seen.add(read_config(folder, checkpoint)["steps"])
            write_config(folder, as_text(steps=12))
            assert read_config(folder, checkpoint)["steps"] == 12
        assert seen == {6, 9}


class TestSteps:
    """The number of steps that a checkpoint's run was to have."""

    @pytest.mark.parametrize(
        ("then", "now", "found"),
        [
            (6, 6, 6),
            (6, 9, 6),
            (9, 6, 9),
            (2, 9, 2),  # those of the checkpoint itself
            (9_999, 6, 9_999),
            (10_000, 6, None),  # nobody tries so many
            (19_999, 2_000, 19_999),  # ten times as many as now
            (20_000, 2_000, None),
        ],
    )
    def test_it_is_found_by_the_hash_of_the_settings_of_then(
        self, then: int, now: int, found: int | None, tmp_path: Path
    ) -> None:
        checkpoint = begin(tmp_path, steps=then)
        write_config(tmp_path, as_text(steps=now))
        assert read_steps_of(tmp_path, checkpoint) == found

    def test_it_is_not_known_where_more_changed_since(self, tmp_path: Path) -> None:
        checkpoint = begin(tmp_path)
        write_config(tmp_path, as_text(steps=9, lr=0.5))
        assert read_steps_of(tmp_path, checkpoint) is None

    @pytest.mark.parametrize(("lr", "found"), [(0.01, 10**12), (0.5, None)])
    def test_a_run_until_it_is_stopped_may_have_any_number(self, lr: float, found: int | None, tmp_path: Path) -> None:
        """`steps=1000000000000 time_limit=8h`: they are neither listed nor all tried."""
        checkpoint = begin(tmp_path, steps=10**12)
        write_config(tmp_path, as_text(steps=10**12, lr=lr))
        assert read_steps_of(tmp_path, checkpoint) == found

    def test_a_checkpoint_of_an_earlier_version_has_those_of_now(self, tmp_path: Path) -> None:
        begin(tmp_path)
        earlier = publish(tmp_path / "checkpoints", 4, {"state.json": b"{}"})
        assert read_steps_of(tmp_path, earlier) == 6


class TestRecord:
    """run.json is as it was written."""

    @given(st.integers(0, 10**6))
    def test_a_flipped_bit_is_refused_or_changes_nothing_that_is_read(self, tmp_path: Path, place: int) -> None:
        begin(tmp_path)
        before = read_record(tmp_path)
        flip(tmp_path / "run.json", place)
        if json_of(tmp_path / "run.json").get("sha256") is None:  # no JSON, or without its hash
            hashed = {key: value for key, value in before.items() if key != "sha256"}
            assert read_record(tmp_path) in ({}, read_record(tmp_path) | hashed)
        elif json_of(tmp_path / "run.json") != before:
            refused(lambda: read_record(tmp_path), "run.json")

    @pytest.mark.parametrize(
        "odd", [{CONFIGS: 3}, {CONFIGS: [None]}, {"held_out": [1]}, {"command": "x"}, {"data": 3}, {"reward": ["x"]}]
    )
    def test_one_without_a_hash_is_at_least_of_its_form(self, odd: dict[str, object], tmp_path: Path) -> None:
        """An edit, or another program's file: every verb that reads it says so in one line."""
        (tmp_path / "run.json").write_text(json.dumps(RECORD | odd))
        refused(lambda: read_record(tmp_path), "run.json")

    def test_an_earlier_commits_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "run.json").write_text('{"seed": 1}')
        assert read_record(tmp_path) == {"seed": 1}

    def test_the_hash_does_not_depend_on_the_order_of_the_keys(self) -> None:
        # sha256 of {"a": 2, "b": 1}
        expected = "21501dbaf73f5223934d22283f01caff4132bc1de4a9550c1ed0dffeb397a323"
        assert own_hash({"b": 1, "sha256": "x", "a": 2}) == own_hash({"a": 2, "b": 1}) == expected

    def test_the_file_is_named_by_its_place(self, tmp_path: Path) -> None:
        fix = "bring back the file as it was, or start a new sweep"
        line = changed("sweep.json", tmp_path, of="sweep").line()
        assert line == f"sweep.json is not what the sweep wrote ({tmp_path / 'sweep.json'}); fix: {fix}"


class TestResult:
    """result.json is as it was written."""

    def test_a_changed_one_is_noticed(self, tmp_path: Path) -> None:
        begin(tmp_path)
        result = tmp_path / "result.json"
        result.write_text('{"step": 6}')
        assert is_own(tmp_path, "result.json")  # an earlier commit notes none
        bind(tmp_path, "result.json")
        assert is_own(tmp_path, "result.json")
        result.write_text('{"step": 7}')
        assert not is_own(tmp_path, "result.json")
