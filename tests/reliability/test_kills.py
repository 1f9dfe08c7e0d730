"""kill -9 at any instant, and just as a checkpoint appears: a short scripts/kills."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.processes import start
from tests.scripts import load

SCRIPT = Path(__file__).parents[2] / "scripts" / "crashes" / "kills.py"


@pytest.mark.case(16)
def test_killed_anywhere_and_resumed_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    few = ("prompts_per_step=2", "samples_per_prompt=2", "evaluate.prompts=2", "evaluate.samples=2")
    short = ("model.layers=1", "steps=6", "max_new_tokens=4", "evaluate.every=3", *few)
    argv = [str(SCRIPT), "--kills", "2", "--seed", "1", *short]
    script = f"import runpy, sys; sys.argv = {argv}; runpy.run_path({argv[0]!r}, run_name='__main__')"
    process = start(cwd=tmp_path, before=script)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    _, *tries, last = out.splitlines()
    assert last.startswith("2 of 2 identical in ")
    assert [line.split()[-1] for line in tries] == ["identical"] * 2
    assert sum(" ms after a checkpoint" in line for line in tries) == 1
    assert list(tmp_path.glob("rlhf-kills-*")) == []


@pytest.fixture(scope="module")
def kills() -> ModuleType:
    return load("crashes/kills.py")


def test_a_difference_is_named(kills: ModuleType) -> None:
    was = {"metrics.jsonl": b"1\n2\n", "result.json": b"{}\n"}
    assert kills.find_difference(was, dict(was)) is None
    assert kills.find_difference(was, was | {"metrics.jsonl": b"1\n3\n"}) == "metrics.jsonl, line 2"
    assert kills.find_difference(was, was | {"metrics.jsonl": b"1\n2\n3\n"}) == "metrics.jsonl, line 3"
    assert kills.find_difference(was, was | {"result.json": b"[]\n"}) == "result.json, line 1"


def test_what_a_killed_run_was_doing(kills: ModuleType, tmp_path: Path) -> None:
    def phase() -> str:
        found: str = kills.phase(tmp_path, 0.0)
        return found

    assert phase() == "loading"
    (tmp_path / "config.json").write_text('{"steps": 2, "evaluate": {"every": 1}}')
    (tmp_path / "metrics.jsonl").touch()
    assert kills.phase(tmp_path, (tmp_path / "config.json").stat().st_mtime + 1) == "loading"  # of a resume
    assert phase() == "before its first step"
    scratch = tmp_path / "checkpoints" / ".tmp-step-00000000-abc"
    scratch.mkdir(parents=True)
    assert phase() == "in the save of step 0"
    scratch.rename(tmp_path / "checkpoints" / "step-00000000")
    told = []
    for step in range(3):
        told.append(phase())
        with (tmp_path / "metrics.jsonl").open("a") as log:
            log.write(f'{{"step": {step}}}\n')
    assert told == ["before its first step", "in step 1", "in step 2"]
    assert phase() == "after its last step"


def test_a_run_that_differs_is_kept(kills: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def try_one(number: int, folder: Path) -> tuple[str, str | None]:
        folder.mkdir()
        return f"try {number}", "metrics.jsonl, line 3" if number == 2 else None

    assert kills.try_all(tmp_path, 3, try_one) == 1
    first, second, _, last, kept = capsys.readouterr().out.splitlines()
    assert (first, second) == ("   1  try 1 identical", "   2  try 2 metrics.jsonl, line 3")
    assert last.startswith("2 of 3 identical in ")
    assert kept.startswith(f"kept: {tmp_path}/run-2; ")
    assert [path.name for path in tmp_path.iterdir()] == ["run-2"]
    (tmp_path / "run-2").rmdir()
    assert kills.try_all(tmp_path, 1, try_one) == 0
    assert not tmp_path.exists()
