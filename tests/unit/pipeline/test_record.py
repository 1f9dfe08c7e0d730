"""run.json: what a resumed run compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.pipeline.record import GROUND, check_ground
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.execution.process import FIXED, reward_environment
from rlhf_cli.runs.binding import write_record


class Notes(Reporter):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def record(environment: dict[str, str] | None) -> dict[str, Any]:
    own = {"sha256": "5", "environment": environment}
    return {"data": {"sha256": "d"}, "model": {"sha256_sampled": "m"}, "reward": own} | dict.fromkeys(GROUND, "same")


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
    assert check_ground(tmp_path, record(now), reporter, ()) == (not notes)
    assert reporter.texts == [f"{note}: the run continues, but not bit for bit" for note in notes]


@pytest.mark.parametrize("invariant", [None, False, True])
def test_threads_count_only_where_the_engine_is_not_invariant(invariant: bool | None, tmp_path: Path) -> None:
    before, now = (record(None) | {"threads": threads, "invariant": invariant} for threads in (1, 2))
    write_record(tmp_path, before)
    reporter = Notes()
    assert check_ground(tmp_path, now, reporter, ()) == (invariant is True)
    assert [note[:24] for note in reporter.texts] == ([] if invariant else ["threads changed (1 -> 2)"])


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
        check_ground(tmp_path, now, Notes(), ())
    assert (caught.value.what, caught.value.exit_code) == (f"the {what} changed since the run began", EXIT_RESUME)
    assert check_ground(tmp_path, now, Notes(), (part,))
    assert check_ground(tmp_path, now, Notes(), ())  # it was allowed, and noted as the run's own


@pytest.mark.parametrize(("part", "key"), [("model", "sha256_text"), ("reward", "sha256")])
def test_a_record_of_an_earlier_commit_has_fewer_hashes(part: str, key: str, tmp_path: Path) -> None:
    write_record(tmp_path, record(None) | {part: record(None)[part] | {key: None}})
    assert check_ground(tmp_path, record(None) | {part: record(None)[part] | {key: "new"}}, Notes(), ())
