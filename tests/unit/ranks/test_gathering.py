"""The processes of a run fit its shards."""

from __future__ import annotations

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.ranks.gathering import seat
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
