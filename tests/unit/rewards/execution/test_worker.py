"""Inside the process of a function: how it is imported and called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlhf_cli.errors import UserError
from rlhf_cli.rewards.execution.worker import seed_generators
from tests.unit.rewards.execution.support import SEE, Opened, ask, refused


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


def test_torchs_generator_is_seeded_too() -> None:
    drawn = []
    for seed in (3, 3, 4):
        seed_generators(seed)
        drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[1] != drawn[2]


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


@pytest.mark.parametrize("name", ["rewards.v2.py", "my rewards.py", "1st.py"])
def test_a_file_may_have_any_name(name: str, opened: Opened, tmp_path: Path) -> None:
    (tmp_path / name).write_text("def f(completions):\n    return [4] * len(completions)")
    assert ask(opened("", function=f"{tmp_path}/{name}:f")).scores == [4.0] * 4


def test_it_imports_nothing_heavy(opened: Opened, tmp_path: Path) -> None:
    ask(opened("import sys\ndef f(completions):\n    print(*sys.modules)\n    return [0] * 4"))
    loaded = {name.partition(".")[0] for name in (tmp_path / "reward.log").read_text().split()}
    assert not loaded & {"torch", "numpy", "pydantic", "rlhf_cli", "hydra", "yaml", "asyncio"}


@pytest.mark.parametrize(
    "odd",
    [
        "def __str__(self): raise ValueError('no')",
        "def __str__(self): raise SystemExit(3)",
        "fix = property(lambda self: 1 / 0)",
    ],
)
def test_an_exception_that_cannot_say_why_is_a_failure_as_any_other(odd: str, opened: Opened, tmp_path: Path) -> None:
    source = opened(f"class Odd(Exception):\n    {odd}\ndef f(completions):\n    raise Odd")
    said = "rewards.py:f raised Odd (its message cannot be read) for the completion 'a' (step 3, p.jsonl:1)"
    assert refused(lambda: ask(source)) == f"{said}{SEE}"
    assert "worker.py" not in (tmp_path / "reward.log").read_text().rpartition("Odd")[2]
