"""The commands of the tutorial, of the skill page and of the notebook, as a reader pastes them, in the page's order."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import Outcome

Rlhf = Callable[..., Outcome]
ROOT = Path(__file__).parents[2]
PAGES = {
    "tutorial": ROOT / "docs" / "tutorial.md",
    "skill": ROOT / "rlhf_cli" / "commands" / "planning" / "skill.md",
}
BLOCK = re.compile(r'^```(?P<language>\w+)(?: title="(?P<file>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
CODE = re.compile(r"\s+# exit code (\d+)$")


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
