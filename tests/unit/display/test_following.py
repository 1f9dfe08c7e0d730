"""The commands that may follow speak of the experiment that was run."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.display.console import PlainConsole
from rlhf_cli.display.following import after_run, after_sweep, print_next
from rlhf_cli.runs.result import Result, SideBySide
from rlhf_cli.sweep.answer import Answer

COMMAND = ["rlhf", "config=/a/my-run.yaml", "beta='0.1'", "reward.pattern='a b'", "run_dir='/x/y'", "display=plain"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run with a constant beta, in a folder whose name needs quotes."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "my run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"command": COMMAND}))
    write_beta(run, {"kind": "constant", "value": 0.1})
    return run


def write_beta(run: Path, beta: Any) -> None:
    (run / "config.json").write_text(json.dumps({"beta": beta}))


def result_of(*prompts: str) -> Result:
    return Result(40, 0.1, 8, 4, None, None, tuple(SideBySide(prompt, "a", "b") for prompt in prompts))


def test_the_run_goes_on_and_is_varied_as_it_was(folder: Path) -> None:
    assert after_run(result_of("It's two\nlines", "What's 2 + 2?"), folder) == [
        "rlhf generate 'my run' --reference 'What'\"'\"'s 2 + 2?'",
        "rlhf train resume='my run' steps=80",
        "rlhf train config=/a/my-run.yaml 'reward.pattern=a b' -m beta=0.05,0.1,0.2",
    ]


@pytest.mark.parametrize("beta", [{"kind": "linear", "end": 0.1}, {"kind": "constant", "value": 0.0}, None])
def test_without_a_beta_to_vary_the_seeds_are(folder: Path, beta: Any) -> None:
    write_beta(folder, beta)
    assert after_run(result_of(), folder)[-1].endswith(" beta=0.1 'reward.pattern=a b' -m seeds=3")


def test_a_fork_is_varied_without_its_own_beta_and_keeps_its_seed(folder: Path) -> None:
    record = {"command": ["rlhf", "steps=9", "beta='0.1'"], "parent": {"folder": "/p", "step": 3}}
    (folder / "run.json").write_text(json.dumps(record))
    assert after_run(result_of(), folder)[2:] == ["rlhf fork /p@3 steps=9 -m beta=0.05,0.1,0.2"]
    write_beta(folder, {"kind": "linear", "end": 0.1})
    assert len(after_run(result_of(), folder)) == 2


def test_a_run_whose_command_is_not_known_is_not_varied(folder: Path) -> None:
    (folder / "run.json").unlink()
    assert len(after_run(result_of("x" * 61), folder)) == 2


def test_a_narrow_terminal_breaks_no_command(folder: Path) -> None:
    commands, output = after_run(result_of(), folder), StringIO()
    print_next(PlainConsole(file=output, width=40), commands)
    assert output.getvalue().splitlines() == ["Next", *(f"  {command}" for command in commands)]


def test_a_shell_that_does_not_find_the_command_is_told_how(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after scripts/train, which runs it from the .venv beside it."""
    bin = folder.parent / ".venv" / "bin"
    bin.mkdir(parents=True)
    (bin / "activate").touch()
    monkeypatch.setenv("PATH", str(folder))
    for executable, expected in ((bin / "python", ["  source .venv/bin/activate"]), (folder / "python", [])):
        monkeypatch.setattr("sys.executable", str(executable))
        output = StringIO()
        print_next(PlainConsole(file=output), ["rlhf runs"])
        assert output.getvalue().splitlines() == ["Next", *expected, "  rlhf runs"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("rlhf train -m beta=0.1,0.2", ["rlhf train -m beta=0.1,0.2 seeds=3"]),
        ("rlhf train -m beta=0.1,0.2 seeds=2", []),
        ("rlhf train -m seed=1,2", []),
    ],
)
def test_a_sweep_is_repeated_with_seeds(folder: Path, command: str, expected: list[str]) -> None:
    assert after_sweep(Answer(folder=str(folder), command=command, reason=(), left_out=())) == expected
