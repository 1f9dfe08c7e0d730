"""What reads a run never fails or waits because of a damaged file: it passes it over, or names it in one line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from rlhf_cli.models.limits import time_limit
from tests.support import Outcome

Rlhf = Callable[..., Outcome]
CHECKPOINT: Final = "checkpoints/step-00000006"


def _replace(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def damage(file: Path) -> None:
        file.unlink()
        make(file)

    return damage


DAMAGES: Final[dict[str, Callable[[Path], object]]] = {
    "missing": Path.unlink,
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "null": lambda file: file.write_bytes(b"null"),
    "nested": lambda file: file.write_bytes(b"[" * 100_000),
    "many digits": lambda file: file.write_bytes(b'{"steps": 1' + b"0" * 5000 + b"}"),
    "not UTF-8": lambda file: file.write_bytes(b"\xff\xfe" + file.read_bytes()),
    "folder": _replace(Path.mkdir),
    "pipe": _replace(os.mkfifo),
    "link": _replace(lambda file: file.symlink_to("nowhere")),
}
READERS: Final = (("runs", "."), ("report", "out", "--output", "page.html"), ("doctor", "out"))


@pytest.mark.parametrize(
    "file",
    [
        "config.json", "run.json", "result.json", "metrics.jsonl", "evaluations.jsonl", "samples.jsonl",
        f"{CHECKPOINT}/MANIFEST.json", f"{CHECKPOINT}/state.json",
    ],
)  # fmt: skip
def test_any_damage_is_passed_over_or_named(file: str, rlhf: Rlhf, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    for name, damage in DAMAGES.items():
        damage(tmp_path / "out" / file)
        for argv in READERS:
            with time_limit(60):
                outcome = rlhf(*argv)
            said = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
            assert outcome.code in (0, 5), (name, argv, outcome.err)
            assert len(said) == (outcome.code != 0), (name, argv, outcome.err)
        _restore(file, finished, tmp_path / "out")


@pytest.mark.parametrize("file", ["config.json", "run.json"])
def test_no_damage_makes_a_resume_another_run(file: str, rlhf: Rlhf, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    logs = ("metrics.jsonl", "samples.jsonl", "evaluations.jsonl")
    before = [(finished / log).read_bytes() for log in logs]
    for name, damage in DAMAGES.items():
        damage(tmp_path / "out" / file)
        with time_limit(60):
            outcome = rlhf("train", "resume=out", "steps=8", "display=quiet")
        assert outcome.code in (5, 6), (name, outcome.err)
        assert [(tmp_path / "out" / log).read_bytes() for log in logs] == before
        _restore(file, finished, tmp_path / "out")


def _restore(file: str, source: Path, run: Path) -> None:
    if (run / file).is_dir():
        (run / file).rmdir()
    (run / file).unlink(missing_ok=True)
    shutil.copyfile(source / file, run / file)
