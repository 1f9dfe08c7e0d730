"""What trials of a sweep share: which of them, made once, and by whom."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Timer
from typing import Any

import pytest

from rlhf_cli.config.jobs import compose_config
from rlhf_cli.errors import Stopped
from rlhf_cli.runs import sharing
from rlhf_cli.runs.sharing import find_place, share
from tests.unit.pipeline.runs import ppo_fields
from tests.unit.support import SHAPING, config_of

RECORD = {"threads": 1, "command": ["rlhf"], "memory": {"predicted_mib": 5}, "data": {"sha256": "a"}}
Placed = Callable[..., Path | None]


def ignore() -> None: ...


@pytest.fixture
def place(tmp_path: Path) -> Placed:
    """The place of a trial with these settings, and with another run.json where it is given."""
    (tmp_path / "sweep.json").write_text("{}")

    def of(record: dict[str, Any] = RECORD, folder: str = "trial", **settings: Any) -> Path | None:
        return find_place(tmp_path / folder, config_of(**settings), record)

    return of


def test_settings_of_the_training_alone_have_one_place(tmp_path: Path, place: Placed) -> None:
    own = place()
    assert own is not None
    assert own.parent == tmp_path / "reference"
    assert (len(own.stem), own.suffix) == (32, ".json")
    assert place(dict(reversed(RECORD.items()))) == own
    schedule = {"kind": "constant", "value": 0.3}
    training = {"kl": "exact", "algorithm": {"kind": "reinforce", "baseline": "none"}, "steps": 3, "top_k": 5}
    free = {"display": "json", "jobs": 2, "stop": {"kl": 3.0}, "evaluate": {"every": 1, "prompts": 2, "samples": 1}}
    assert place(folder="other", beta=schedule, temperature=schedule, **training, **free) == own
    assert place(RECORD | {"command": ["rlhf", "x"], "memory": {"predicted_mib": 9}, "sha256": "b"}) == own


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"max_new_tokens": 5},
        {"evaluate": {"every": 2, "prompts": 2, "samples": 2}},
        {"evaluate": {"every": 2, "prompts": 3, "samples": 1}},
        {"prompts_per_step": 3},
        {"samples_per_prompt": 3},
        {"microbatch_size": 3},
        {"reward": {"kind": "characters", "characters": "abd"} | SHAPING},
        {"algorithm": ppo_fields()},
        {"dtype": "bfloat16"},
        {"threads": 2},
        {"shards": 2},
        {"reuse_forward": True},
    ],
)
def test_settings_that_the_numbers_depend_on_have_a_place_of_their_own(settings: dict[str, Any], place: Placed) -> None:
    assert place(**settings) != place()


def test_other_ground_is_another_place(place: Placed) -> None:
    assert len({place(record=RECORD | {"threads": 2}), place(record=RECORD | {"data": {"sha256": "b"}}), place()}) == 3


def test_without_a_sweep_or_with_a_server_that_may_score_otherwise_there_is_none(place: Placed, tmp_path: Path) -> None:
    server = compose_config(["config=tiny", "reward=http", "reward.url=http://localhost:1/x"]).reward.source
    letters = {"kind": "characters", "characters": "abc"}
    parts: dict[str, Any] = {"a": letters, "b": letters}
    both = {"kind": "weighted", "weights": {"a": 1.0, "b": 1.0}} | SHAPING
    assert place(reward=both | {"parts": parts}) is not None
    assert place(reward=both | {"parts": parts | {"b": server.model_dump()}}) is None
    assert place(reward=server.model_dump() | SHAPING) is None
    (tmp_path / "sweep.json").unlink()
    assert place() is None


def test_many_at_once_make_it_once(tmp_path: Path) -> None:
    file, made, all_begun = tmp_path / "reference" / "k.json", list[int](), Event()

    def make() -> tuple[dict[str, Any], bool]:
        made.append(1)
        assert all_begun.wait(20)
        return {"reward": [[0.1 + 0.2, -0.0]], "texts": [["ä"]]}, True

    def one(number: int) -> tuple[dict[str, Any], bool]:
        if number == 3:
            all_begun.set()
        return share(file, make, ignore)

    with ThreadPoolExecutor(4) as pool:
        answers = [*pool.map(one, range(4))]
    assert len(made) == 1
    assert sorted(is_shared for _, is_shared in answers) == [False, True, True, True]
    assert {repr(content) for content, _ in answers} == {"{'reward': [[0.30000000000000004, -0.0]], 'texts': [['ä']]}"}


def test_what_is_not_to_be_kept_or_was_changed_is_made_again(tmp_path: Path) -> None:
    file = tmp_path / "reference" / "k.json"
    assert share(file, lambda: ({"n": 1}, False), ignore) == ({"n": 1}, False)
    assert share(file, lambda: ({"n": 2}, True), ignore) == ({"n": 2}, False)
    assert share(file, lambda: ({"n": 3}, True), ignore) == ({"n": 2}, True)
    for text in (file.read_text().replace('"n": 2', '"n": 4'), "", '{"n": 4}'):
        file.write_text(text)
        assert share(file, lambda: ({"n": 5}, True), ignore) == ({"n": 5}, False)


def test_the_lock_of_a_process_that_ends_goes_to_the_next(tmp_path: Path) -> None:
    """That a kill -9 leaves: a lock that the system frees, and no file."""
    file = tmp_path / "k.json"
    lock = file.with_suffix(".lock").open("a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    Timer(0.3, lock.close).start()
    assert share(file, lambda: ({"n": 1}, True), ignore) == ({"n": 1}, False)


def test_who_waits_can_be_stopped_and_waits_no_longer_than_its_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "k.json"
    with file.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def stop() -> None:
            raise Stopped("Ctrl-C")

        with pytest.raises(Stopped):
            share(file, lambda: ({"n": 1}, True), stop)
        monkeypatch.setattr(sharing, "PATIENCE_S", 0.2)
        assert share(file, lambda: ({"n": 1}, True), ignore) == ({"n": 1}, False)


def test_a_disk_that_refuses_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "reference").write_text("a file")
    assert share(tmp_path / "reference" / "k.json", lambda: ({"n": 1}, True), ignore) == ({"n": 1}, False)
    (tmp_path / "k.lock").symlink_to(tmp_path / "elsewhere")
    assert share(tmp_path / "k.json", lambda: ({"n": 1}, True), ignore) == ({"n": 1}, False)
    assert not (tmp_path / "elsewhere").exists()
