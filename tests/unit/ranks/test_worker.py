"""A process of rank 1 or more: the tasks that it does, and its signs of life."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import EXIT_BUG
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks.messages import Failure, Order
from rlhf_cli.ranks.worker import _answer, _beat, _calculator


@pytest.mark.parametrize(("patience", "ends"), [(0.05, True), (None, False)])
def test_a_process_whose_first_one_no_longer_answers_ends(
    patience: float | None, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut cable: the store's answer does not come, and no error either."""
    codes, ended, waited = list[int](), threading.Event(), list[bool]()

    class Silent:
        """Answers after a while, by an error."""

        def add(self, key: str, amount: int) -> int:
            """Wait, as for an answer."""
            waited.append(ended.wait(10 if ends else 0.3))
            raise RuntimeError("Connection reset by peer")

    def leave(code: int) -> None:
        codes.append(code)
        ended.set()

    monkeypatch.setattr(os, "_exit", leave)
    store: Any = Silent()
    _beat(store, 1, patience, threading.Event())
    assert waited == [ends]
    assert codes == [EXIT_BUG] * (2 if ends else 1)  # here the process goes on, to the error


def test_the_signs_of_life_end_with_the_run_whose_store_may_be_gone_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, ended, beats = list[int](), threading.Event(), list[str]()

    class Ending:
        """Answers twice; the run ends, and the store with it."""

        def add(self, key: str, amount: int) -> int:
            """Count."""
            beats.append(key)
            if len(beats) == 3:
                ended.set()
                raise RuntimeError("Connection reset by peer")
            return amount

    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr("rlhf_cli.ranks.worker.BEAT_S", 0.0)
    store: Any = Ending()
    _beat(store, 1, None, ended)
    assert len(beats) == 3
    _beat(store, 1, None, ended)
    assert len(beats) == 3
    assert codes == []


def test_it_does_the_tasks_of_its_verb_and_no_others(moved: Policy) -> None:
    def double(policy: Policy, engine: TransformersEngine, number: int, *, tick: object) -> int:
        return 2 * number

    calculate = _calculator(moved, TransformersEngine(moved), None, {"double": double})
    assert _answer(calculate, Order(1, None, "double", [(3,), (4,)])).results == [6, 8]
    refused = _answer(calculate, Order(2, None, "exec", [("print(1)",)])).results
    assert isinstance(refused, Failure)
    assert (refused.kind, "KeyError: 'exec'" in refused.what) == ("bug", True)
