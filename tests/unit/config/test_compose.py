"""compose_config: a config without a run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rlhf_cli.config.jobs import compose_config
from rlhf_cli.config.launch import Launch

Started = Callable[..., list[Launch]]
Refused = Callable[..., str]


def test_composing_loads_no_torch(cwd: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "rlhf_cli", "train", "--cfg", "job"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hydra" in imported
    assert "torch" not in imported


def test_compose_config_needs_no_folder(cwd: Path) -> None:
    assert compose_config(["config=tiny", "steps=9"]).steps == 9
    assert compose_config([]).run_dir is None
    assert compose_config(["run_dir=~/r"]).run_dir == os.path.expanduser("~/r")
    assert list(cwd.iterdir()) == []
