"""Inside the process of a function: how it is imported and called, and what counts as scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.rewards.execution import worker
from tests.unit.rewards.execution.support import TEXTS, Opened, ask


@pytest.mark.parametrize(
    "result",
    [
        [1, 0.5, True, -2],
        (1, 0.5, True, -2),
        np.array([1, 0.5, 1, -2]),
        np.array([1, 0.5, 1, -2], dtype=np.float32),
        [np.float32(1), np.float64(0.5), np.bool_(True), np.int64(-2)],
        [np.array(1.0), 0.5, True, -2],
    ],
    ids=repr,
)
def test_numbers_of_any_kind_are_scores(result: Any) -> None:
    scores = worker.as_scores(result, 4)["scores"]
    assert scores == [1.0, 0.5, 1.0, -2.0]
    assert {type(score) for score in scores} == {float}


def test_what_is_no_finite_number_is_passed_on() -> None:
    assert worker.as_scores([None, 10**400, -(10**400), math.inf], 4) == {
        "scores": [None, math.inf, -math.inf, math.inf]
    }


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (None, "returned None, not a list of 4 scores"),
        (0.5, "returned a value of type float, not a list of 4 scores"),
        (np.array(0.5), "returned a value of type float, not a list of 4 scores"),
        ("good", "returned a value of type str, not a list of 4 scores"),
        ({}, "returned a value of type dict, not a list of 4 scores"),
        ((1 for _ in range(4)), "returned a value of type generator, not a list of 4 scores"),
        ([], "returned 0 scores for 4 completions"),
        ([1] * 5, "returned 5 scores for 4 completions"),
        ([[1], [1], [1], [1]], "returned a value of type list as score 1 of 4, not a number or None"),
        (np.ones((4, 1)), "returned a value of type list as score 1 of 4, not a number or None"),
        ([1, 1, "1", 1], "returned a value of type str as score 3 of 4, not a number or None"),
        ([1, 1, np.ones(2), 1], "returned a value of type ndarray as score 3 of 4, not a number or None"),
        ([1, 1, 1, 1j], "returned a value of type complex as score 4 of 4, not a number or None"),
    ],
)
def test_anything_else_is_no_list_of_scores(result: Any, said: str) -> None:
    assert worker.as_scores(result, 4) == {"wrong": said}


def test_the_random_numbers_follow_from_the_seed(opened: Opened) -> None:
    source = opened(
        """
        import random
        import numpy
        def f(completions):
            return [random.random() + numpy.random.rand() for _ in completions]
        """
    )
    one, same, other = (ask(source, seed=seed).scores for seed in (2**63 - 1, 2**63 - 1, 6))
    assert one == same != other


def test_sets_come_in_the_same_order_in_every_process(opened: Opened) -> None:
    code = "def f(completions):\n    return [int(word[5:]) for word in {f'word {i}' for i in range(99)}][:4]"
    assert ask(opened(code)) == ask(opened(code))


def test_tensors(opened: Opened) -> None:
    source = opened(
        """
        import torch
        def f(completions):
            whole = torch.tensor([1.0, 0.5, torch.rand(()), -2], requires_grad=True)
            return whole if len(completions) > 3 else list(whole[:3])
        """,
        timeout_s=60.0,
    )
    seeded = ask(source, seed=3).scores
    assert (seeded[0], seeded[1], seeded[3]) == (1.0, 0.5, -2.0)
    assert ask(source, TEXTS[:3], seed=3).scores == seeded[:3]


def test_an_async_function_and_one_that_keeps_its_loop(opened: Opened) -> None:
    source = opened(
        """
        import asyncio
        lock = None
        async def f(completions):
            global lock
            lock = lock or (asyncio.Event(), asyncio.get_running_loop())
            assert lock[1] is asyncio.get_running_loop()
            return await asyncio.gather(*map(one, completions))
        async def one(text):
            await asyncio.sleep(0)
            return len(text)
        """
    )
    assert ask(source).scores == ask(source).scores == [1.0, 2.0, 3.0, 4.0]


def test_a_module_is_found_in_the_working_directory(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = opened("def f(completions):\n    return [3] * 4", function="rewards:f")
    assert ask(source).scores == [3.0] * 4
    assert source.name == "rewards:f"
    with pytest.raises(UserError, match=r"^nope:f cannot be imported: it raised ModuleNotFoundError: No module named"):
        opened("", function="nope:f")


def test_what_stands_beside_the_file_can_be_imported(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("score = 3")
    assert ask(opened("import beside\ndef f(completions):\n    return [beside.score] * 4")).scores == [3.0] * 4


def test_it_imports_nothing_heavy(opened: Opened, tmp_path: Path) -> None:
    ask(opened("import sys\ndef f(completions):\n    print(*sys.modules)\n    return [0] * 4"))
    loaded = {name.partition(".")[0] for name in (tmp_path / "reward.log").read_text().split()}
    assert not loaded & {"torch", "numpy", "pydantic", "rlhf_cli", "hydra", "yaml"}
