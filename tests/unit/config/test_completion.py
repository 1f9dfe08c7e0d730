"""The shell's TAB."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.config.completion import complete
from rlhf_cli.config.options import options
from rlhf_cli.errors import UserError

from .conftest import write

VERBS = ("train", "generate")


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[str]]:
    """What is offered for a command line."""

    def query(line: str) -> list[str]:
        monkeypatch.setenv("COMP_LINE", line)
        complete(["query=bash"], VERBS)
        return capsys.readouterr().out.split()

    return query


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rlhf", ["generate", "train"]),
        ("rlhf ", ["generate", "train"]),
        ("rlhf tr", ["train"]),
        ("rlhf x", []),
        ("rlhf generate ", []),
        ("rlhf train algorithm=r", ["algorithm=reinforce", "algorithm=rloo"]),
        ("rlhf train --multirun beta=0.1,linear algorithm=rl", ["algorithm=rloo"]),
        ("/usr/local/bin/rlhf train beta=0.1 -m optimizer.l", ["optimizer.lr="]),
        ("rlhf train beta=0.1 nonsense algorithm=ppoo st", ["steps=", "stop."]),
        ("rlhf train --mul", ["--multirun"]),
        ("rlhf train config=", [*sorted(["config=runs/", *(f"config={name}" for name in options("config"))])]),
        ("rlhf train config=runs/", ["config=runs/a.yaml"]),
        ("rlhf train data=jsonl data.path=ru", ["data.path=runs/"]),
        ("rlhf train resume=runs/", ["resume=runs/a.yaml", "resume=runs/b.txt"]),
        ("rlhf train reward.function=runs/b", ["reward.function=runs/b.txt"]),
        ("rlhf train config=runs/a.yaml beta.", ["beta.end=", "beta.kind=", "beta.start="]),
    ],
)
def test_what_is_offered(cwd: Path, offered: Callable[[str], list[str]], line: str, words: list[str]) -> None:
    write(cwd / "runs/a.yaml", "model: tiny\ndata: tiny\nreward: characters\nbeta: linear\n")
    write(cwd / "runs/b.txt", "")
    assert offered(line) == words


def test_all_keys_are_offered(offered: Callable[[str], list[str]]) -> None:
    assert {"steps=", "beta=", "optimizer=", "checkpoint.", "run_dir="} <= set(offered("rlhf train "))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_for_the_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    complete([f"install={shell}"], VERBS)
    script = capsys.readouterr().out
    assert "-sc query=" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    complete([f"uninstall={shell}"], VERBS)
    assert capsys.readouterr().out


@pytest.mark.parametrize("argv", [["install=tcsh"], []])
def test_an_unknown_shell_is_one_line(argv: list[str]) -> None:
    with pytest.raises(UserError):
        complete(argv, VERBS)
