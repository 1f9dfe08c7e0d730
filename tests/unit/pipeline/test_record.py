"""run.json: what a resumed run compares."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import rlhf_cli
from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.pipeline import record as module
from rlhf_cli.pipeline.record import BUILD, CALCULATING, GROUND, check_ground, hash_code, note_changes
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.execution.process import FIXED, reward_environment
from rlhf_cli.runs.binding import CHANGED, last_change, read_record, write_record
from rlhf_cli.runs.folder import CHECKPOINTS, CONFIG
from rlhf_cli.runs.resume import Origin

PACKAGE = Path(rlhf_cli.__file__).parent


class Notes(Reporter):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def origin_in(folder: Path, step: int = 4) -> Origin:
    return Origin(folder, folder / CHECKPOINTS / f"step-{step:08d}", ())


def record(environment: dict[str, str] | None) -> dict[str, Any]:
    own = {"sha256": "5", "environment": environment}
    hashes = {"data": {"sha256": "d"}, "model": {"sha256_sampled": "m"}, "reward": own, BUILD: "b"}
    return hashes | dict.fromkeys(GROUND, "same")


def goes_on(origin: Origin, now: dict[str, Any], reporter: Reporter, allowed: tuple[str, ...]) -> bool:
    """Check the ground, and go on with the record that it gives."""
    is_same, known = check_ground(origin, now, reporter, allowed)
    write_record(origin.folder, known)
    return is_same


@pytest.mark.parametrize(
    ("before", "now", "notes"),
    [
        ({"TZ": "UTC"}, {"TZ": "UTC"}, []),
        (None, {"TZ": "UTC"}, []),
        ({"TZ": "UTC"}, {"TZ": "CET"}, ["TZ of the reward's process changed (UTC -> CET)"]),
        ({}, {"A": "1"}, []),
        ({"A": "1", "B": "2"}, {"B": "2"}, ["A of the reward's process changed (1 -> None)"]),
    ],
)
def test_a_changed_environment_of_the_reward_is_said_on_resume(
    before: dict[str, str] | None, now: dict[str, str], notes: list[str], tmp_path: Path
) -> None:
    write_record(tmp_path, record(before))
    reporter = Notes()
    assert goes_on(origin_in(tmp_path), record(now), reporter, ()) == (not notes)
    assert reporter.texts == [f"{note}: the run continues, but not bit for bit" for note in notes]


@pytest.mark.parametrize("invariant", [None, False, True])
def test_threads_count_only_where_the_engine_is_not_invariant(invariant: bool | None, tmp_path: Path) -> None:
    before, now = (record(None) | {"threads": threads, "invariant": invariant} for threads in (1, 2))
    write_record(tmp_path, before)
    reporter = Notes()
    assert goes_on(origin_in(tmp_path), now, reporter, ()) == (invariant is True)
    assert [note[:24] for note in reporter.texts] == ([] if invariant else ["threads changed (1 -> 2)"])


@pytest.mark.parametrize(
    ("before", "notes"),
    [
        ({BUILD: "b"}, []),
        ({BUILD: None}, []),  # of an earlier build, which did not write it
        ({BUILD: "a"}, ["another build of rlhf-cli 0.1.0 began this run: it continues, but its bytes may be others"]),
        (
            {BUILD: "a", "packages": "before"},
            ["packages changed (before -> same): the run continues, but not bit for bit"],
        ),
    ],
)
def test_another_build_of_the_same_version_is_noted_on_resume(
    before: dict[str, Any], notes: list[str], tmp_path: Path
) -> None:
    saved = {key: value for key, value in (record(None) | before).items() if value is not None}
    write_record(tmp_path, saved)
    reporter = Notes()
    assert goes_on(origin_in(tmp_path), record(None), reporter, ()) == ("packages" not in before)
    assert reporter.texts == notes


def test_a_build_is_known_by_the_code_that_calculates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By nothing else: a page may change its look between two resumes."""
    known = hash_code()
    assert known == hash_code.__wrapped__()
    copy = tmp_path / "rlhf_cli"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "__file__", str(copy / "pipeline" / "record.py"))
    (copy / "report" / "page.py").write_text("")
    assert hash_code.__wrapped__() == known
    for room in CALCULATING:
        file = next((copy / room).glob("*.py"))
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        assert hash_code.__wrapped__() != known
        file.write_bytes(content)
    assert hash_code.__wrapped__() == known


def test_the_environment_of_a_reward_names_what_is_fixed_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "here")
    monkeypatch.setenv("HF_TOKEN", "secret")
    known = reward_environment()
    assert known["PYTHONPATH"] == "here"
    assert known.items() >= FIXED.items()
    assert "HF_TOKEN" not in known


@pytest.mark.parametrize(
    ("part", "key", "what"),
    [
        ("data", "sha256", "data"),
        ("model", "sha256_sampled", "model"),
        ("model", "sha256_text", "model's tokenizer, chat template or end tokens"),
        ("reward", "sha256", "reward"),
    ],
)
def test_what_a_run_learns_from_does_not_change_unsaid(part: str, key: str, what: str, tmp_path: Path) -> None:
    now = record(None)
    now[part] = now[part] | {key: "now"}
    write_record(tmp_path, record(None) | {part: now[part] | {key: "before"}})
    with pytest.raises(UserError) as caught:
        goes_on(origin_in(tmp_path), now, Notes(), ())
    assert (caught.value.what, caught.value.exit_code) == (f"the {what} changed since the run began", EXIT_RESUME)
    assert goes_on(origin_in(tmp_path), now, Notes(), (part,))
    assert read_record(tmp_path)[CHANGED] == {part: 4}
    assert goes_on(origin_in(tmp_path), now, Notes(), ())  # it was allowed, and noted as the run's own


@pytest.mark.parametrize(("part", "key"), [("model", "sha256_text"), ("reward", "sha256")])
def test_a_record_of_an_earlier_commit_has_fewer_hashes(part: str, key: str, tmp_path: Path) -> None:
    write_record(tmp_path, record(None) | {part: record(None)[part] | {key: None}})
    assert goes_on(origin_in(tmp_path), record(None) | {part: record(None)[part] | {key: "new"}}, Notes(), ())


@pytest.mark.parametrize(
    ("key", "value", "group"),
    [
        ("reward.length_penalty", 0.1, "reward"),
        ("reward.url", "http://elsewhere", None),
        ("reward.timeout_s", 9.0, None),
        ("max_new_tokens", 9, "max_new_tokens"),
        ("reference.kind", "model", "reference"),
        ("data.too_long", "drop", "data"),
        ("data.path", "moved.jsonl", None),  # its rows have a hash
        ("beta.value", 0.2, None),
        ("new.key", 1, None),  # the config of an earlier version has fewer
    ],
)
def test_settings_by_which_evaluations_judge(key: str, value: Any, group: str | None, tmp_path: Path) -> None:
    old: dict[str, Any] = {
        "reward": {"kind": "http", "url": "http://here", "timeout_s": 1.0, "length_penalty": 0.0},
        "reference": {"kind": "initial"}, "data": {"too_long": "error", "path": "rows.jsonl"}, "max_new_tokens": 8,
        "beta": {"value": 0.1}, "new": {},
    }  # fmt: skip
    (tmp_path / CONFIG).write_text(json.dumps(old))
    write_record(tmp_path, record(None))
    first, _, last = key.partition(".")
    reporter = Notes()
    assert note_changes(origin_in(tmp_path), tmp_path, old, reporter) == -1
    assert (last_change(tmp_path), reporter.texts) == (-1, [])
    changed = old | {first: old[first] | {last: value} if last else value}
    assert note_changes(origin_in(tmp_path), tmp_path, changed, reporter) == (4 if group else -1)
    assert read_record(tmp_path).get(CHANGED) == ({group: 4} if group else None)
    said = f"{group} changed: evaluations up to step 4 are not compared with later ones"
    assert reporter.texts == ([said] if group else [])


def test_a_run_that_goes_on_from_before_a_change_has_it_there(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text("{}")
    write_record(tmp_path, record(None) | {CHANGED: {"reward": 4, "data": 2}})
    assert last_change(tmp_path) == 4
    assert last_change(tmp_path, ("data",)) == 2
    assert last_change(tmp_path, ("model",)) == -1
    for step, changes in ((6, {"reward": 4, "data": 2}), (3, {"reward": 3, "data": 2}), (0, {})):
        assert note_changes(origin_in(tmp_path, step), tmp_path, {}, Notes()) == max(changes.values(), default=-1)
        assert read_record(tmp_path)[CHANGED] == changes
