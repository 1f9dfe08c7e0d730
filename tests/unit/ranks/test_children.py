"""The rank of a process by its environment, and the children of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.ranks import children
from rlhf_cli.ranks.children import Children, place

MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "2", "WORLD_SIZE": "4", **MEETING}, (2, 4)),
        ({"WORLD_SIZE": "4"}, (0, 1)),
        ({"RANK": "", "WORLD_SIZE": ""}, (0, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),
    ],
    ids=str,
)
def test_rank_and_size(environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert place(environment) == expected


@pytest.mark.parametrize(("rank", "size"), [(2, 2), (1, 1), (0, 0)])
def test_a_rank_that_there_is_not_is_refused(rank: int, size: int) -> None:
    """Left over in a shell: the run would wait for processes that never come, or end in a traceback."""
    with pytest.raises(UserError) as caught:
        place({"RANK": str(rank), "WORLD_SIZE": str(size), **MEETING})
    assert caught.value.line() == (
        f"RANK={rank} is no process of WORLD_SIZE={size}: they count from 0 (the environment); "
        "fix: start them with torchrun, or unset RANK and WORLD_SIZE"
    )


@pytest.mark.parametrize("wrong", [{"MASTER_ADDR": ""}, {"MASTER_PORT": ""}, {"MASTER_PORT": "http"}], ids=str)
def test_several_processes_without_a_place_to_meet_are_refused(wrong: dict[str, str]) -> None:
    environment = {"RANK": "1", "WORLD_SIZE": "2", **MEETING, **wrong}
    with pytest.raises(UserError) as caught:
        place(environment)
    assert caught.value.line() == (
        "RANK=1 and WORLD_SIZE=2 name a process of several, and no place where they meet "
        "(MASTER_ADDR and MASTER_PORT in the environment); fix: start them with torchrun, or unset RANK and WORLD_SIZE"
    )


def test_the_children_of_a_run_are_of_its_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[tuple[list[str], str]]()

    class Started:
        """A child that has ended by itself."""

        def __init__(self, command: list[str], *, env: dict[str, str], **given: Any) -> None:
            started.append((command, env["RANK"]))

        def poll(self) -> int:
            """It went well."""
            return 0

        def send_signal(self, number: int) -> None:
            """Nobody is there."""

    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setattr(children.subprocess, "Popen", Started)
    Children("reward train", 3, tmp_path).end(0.0)
    assert [(command[-3:], rank) for command, rank in started] == [
        (["rlhf_cli", "reward", "train"], "1"),
        (["rlhf_cli", "reward", "train"], "2"),
    ]


def test_a_run_leaves_the_environment_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is started later may have another network than this machine alone."""
    monkeypatch.delenv(children.INTERFACE, raising=False)
    run = Children("train", 1, tmp_path)
    assert os.environ[children.INTERFACE]
    run.end(0.0)
    assert children.INTERFACE not in os.environ
    monkeypatch.setenv(children.INTERFACE, "eth0")
    Children("train", 1, tmp_path).end(0.0)
    assert os.environ[children.INTERFACE] == "eth0"
