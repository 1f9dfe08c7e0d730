"""What a terminal, a locale or a reader that leaves does to the output of a run that is done."""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

import pytest

from rlhf_cli.cli import run


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished run, `out`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(finished, tmp_path / "out")


def shown(monkeypatch: pytest.MonkeyPatch, encoding: str, *argv: str, terminal: bool = False) -> str:
    """What the command prints on a stdout of that encoding; it has to succeed."""
    raw = io.BytesIO()
    with monkeypatch.context() as patch:
        stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
        patch.setattr(stream, "isatty", lambda: terminal)
        patch.setattr(sys, "stdout", stream)
        assert run(list(argv)) == 0, argv
        return raw.getvalue().decode(encoding)


@pytest.mark.case(72)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_every_command_prints_where_few_characters_can_be_encoded(
    encoding: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = here.parent / "prompts.jsonl"
    prompts.write_text('{"prompt": "Un caf\u00e9 \u2014 \u8336?"}\n' * 3, encoding="utf-8")
    data = ("data", "show", "config=tiny", "data=jsonl", f"data.path={prompts}", "evaluate.every=0")
    assert "\\u8336" in shown(monkeypatch, encoding, *data)
    assert "\\u8336" in shown(monkeypatch, encoding, *data, "--json")
    assert "is finished" in shown(monkeypatch, encoding, "train", "resume=out", "display=plain")
    assert "\\u8336" in shown(monkeypatch, encoding, "generate", "out", "--reference", "\u8336?")
    assert "out" in shown(monkeypatch, encoding, "runs", ".")
    assert "written to" in shown(monkeypatch, encoding, "report", "out")


@pytest.mark.case(75)
def test_a_prompts_escape_sequences_do_not_reach_a_terminal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = "\x1b]0;owned\x07\x1b[31mred"
    assert "\x1b" not in shown(monkeypatch, "utf-8", "generate", "out", "--reference", prompt, terminal=True)
    assert prompt in shown(monkeypatch, "utf-8", "generate", "out", "--reference", prompt)  # a file has it as it is


@pytest.mark.case(73)
def test_a_reader_that_leaves_after_the_run_is_done_is_no_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "result.json").unlink()
    reading, writing = os.pipe()
    os.close(reading)
    with monkeypatch.context() as patch, os.fdopen(writing, "w") as stream:
        patch.setattr(sys, "stdout", stream)
        assert run(["train", "resume=out", "display=plain"]) == 0
        assert (here / "result.json").is_file()
    reading, writing = os.pipe()
    os.close(reading)
    with monkeypatch.context() as patch, os.fdopen(writing, "w") as stream:
        patch.setattr(sys, "stdout", stream)
        assert run(["runs", "."]) == 141  # nothing but its output was wanted


@pytest.mark.case(73)
@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_stream_that_is_closed_is_no_error(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, None)
    assert run(["runs", "."]) == 0
    getattr(sys, name).close()
