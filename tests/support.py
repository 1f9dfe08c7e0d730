"""What the tests of whole commands share; processes.py starts them in processes of their own."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUICK = (
    "config=tiny", "model.layers=1", "steps=6", "prompts_per_step=2", "samples_per_prompt=4", "max_new_tokens=4",
    "checkpoint.every=2", "checkpoint.keep=9", "evaluate.every=3", "evaluate.prompts=4", "evaluate.samples=4",
    "display=quiet",
)  # fmt: skip
"""A tiny run with several checkpoints and evaluations; most of its time is not for its eight completions a step."""

REPEATABLE = ("metrics.jsonl", "samples.jsonl", "evaluations.jsonl", "adapter/adapter_model.safetensors", "result.json")
"""What must come out byte for byte the same."""


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


def gone(pid: int, within_s: float = 20.0) -> bool:
    """Whether the process ends in time; a dead one may wait for whoever reaps it."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
        if not shown.stdout or shown.stdout.startswith("Z"):
            return True
        time.sleep(0.02)
    return False


def lines(file: Path) -> list[dict[str, Any]]:
    """The rows of a jsonl file."""
    with file.open(encoding="utf-8") as rows:
        return [json.loads(row) for row in rows]


def contents(folder: Path) -> dict[str, bytes]:
    """The repeatable files that a run has: without evaluations, for one, it has none of them."""
    return {name: (folder / name).read_bytes() for name in REPEATABLE if (folder / name).exists()}


def everything(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file below a folder, with its time."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def place_in_train_yaml(key: str) -> str:
    """The place of a setting that configs/train.yaml has in its first column, as messages name it."""
    texts = (Path(__file__).parents[1] / "configs" / "train.yaml").read_text(encoding="utf-8").splitlines()
    return f"configs/train.yaml:{[text.split(':')[0] for text in texts].index(key) + 1}"
