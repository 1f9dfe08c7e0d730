"""The first process's side of a broken message."""

from __future__ import annotations

from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from rlhf_cli.errors import Stopped
from rlhf_cli.ranks.leader import Leader


def answer_of(error: Exception) -> None:
    """Wait for the answer of rank 1, whose thread had this error."""
    leader = Leader.__new__(Leader)
    leader._children, leader._lost, leader._number = None, None, 1
    link: Any = SimpleNamespace(rank=1, answers=SimpleQueue())
    link.answers.put(error)
    leader._answer(link)


def test_a_connection_that_breaks_is_a_process_that_is_gone() -> None:
    with pytest.raises(Stopped) as caught:
        answer_of(RuntimeError("Connection closed by peer\nframe #0"))
    assert caught.value.reason == "rank 1 is gone: Connection closed by peer"


def test_a_message_that_cannot_be_written_is_our_bug_and_no_process_that_is_gone() -> None:
    with pytest.raises(TypeError, match="has no place for set"):
        answer_of(TypeError("a message between processes has no place for set"))
