"""The processes of a run fit its shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.ranks import gathering, leader
from rlhf_cli.ranks.gathering import gather, seat
from rlhf_cli.ranks.team import Team
from tests.unit.supervised.support import SFT, settings_of
from tests.unit.support import config_of


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the first of four processes."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")


def test_without_torchrun_the_config_stays() -> None:
    assert seat(config_of(prompts_per_step=2, processes=2, shards=2)).processes == 2


def test_one_process_has_no_model_to_share() -> None:
    with pytest.raises(UserError) as caught:
        seat(config_of(shard_model=True))
    assert caught.value.line() == (
        "one process has nothing to share (shard_model); fix: processes=2, or shard_model=false"
    )
    assert seat(config_of(prompts_per_step=2, processes=2, shards=2, shard_model=True)).shard_model


@pytest.mark.usefixtures("torchrun")
def test_the_processes_of_torchrun_share_a_model() -> None:
    assert seat(config_of(prompts_per_step=5, shards=4, shard_model=True)).processes == 4


@pytest.mark.usefixtures("torchrun")
@pytest.mark.parametrize("shards", [4, 5, "auto"])
def test_torchrun_says_how_many_processes_there_are(shards: int | str) -> None:
    assert seat(config_of(prompts_per_step=5, shards=shards)).processes == 4


@pytest.mark.usefixtures("torchrun")
def test_supervised_training_has_the_processes_of_torchrun_as_well() -> None:
    assert seat(settings_of(SFT, prompts_per_step=5, shards=4)).processes == 4
    with pytest.raises(UserError, match="torchrun started 4 processes, and a step has 3 shards"):
        seat(settings_of(SFT, prompts_per_step=3, shards="auto"))


@pytest.mark.usefixtures("torchrun")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shards": 4, "processes": 2}, "torchrun started 4 processes"),
        ({"shards": 1}, "torchrun started 4 processes, and a step has 1 shard"),
        ({"shards": 2}, "torchrun started 4 processes, and a step has 2 shards"),
    ],
    ids=str,
)
def test_torchrun_cannot_start_another_number(settings: dict[str, int], said: str) -> None:
    with pytest.raises(UserError) as caught:
        seat(config_of(prompts_per_step=5, **settings))
    assert caught.value.what == said


class TestGather:
    """Who is started, waited for and ended."""

    @pytest.fixture
    def told(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
        """The calls that are made, in their order; no process is started."""
        done: list[tuple[Any, ...]] = []

        class Children:
            def __init__(self, *given: Any) -> None:
                done.append(("start", *given))

            def end(self, patience: float) -> None:
                done.append(("end", patience))

        class Leader:
            def __init__(self, size: int, children: object, check: object) -> None:
                done.append(("wait", size, children is not None))

            def close(self) -> None:
                done.append(("close",))

        monkeypatch.setattr(gathering, "Children", Children)
        monkeypatch.setattr(leader, "Leader", Leader)
        return done

    def test_one_process_starts_none(self, told: list[tuple[Any, ...]], tmp_path: Path) -> None:
        with gather("train", 1, tmp_path, print) as wait:
            assert type(wait()) is Team
        assert told == []

    def test_children_have_two_seconds_to_end_once_all_were_there(
        self, told: list[tuple[Any, ...]], tmp_path: Path
    ) -> None:
        with gather("train", 2, tmp_path, print) as wait:
            wait()
        assert told == [("start", "train", 2, tmp_path), ("wait", 2, True), ("close",), ("end", 2.0)]

    def test_children_that_nobody_waited_for_are_ended_at_once(
        self, told: list[tuple[Any, ...]], tmp_path: Path
    ) -> None:
        with pytest.raises(KeyError), gather("train", 3, tmp_path, print):
            raise KeyError
        assert told == [("start", "train", 3, tmp_path), ("end", 0.0)]

    @pytest.mark.usefixtures("torchrun")
    def test_torchrun_started_the_others(self, told: list[tuple[Any, ...]], tmp_path: Path) -> None:
        with gather("train", 4, tmp_path, print) as wait:
            wait()
        assert told == [("wait", 4, False), ("close",)]
