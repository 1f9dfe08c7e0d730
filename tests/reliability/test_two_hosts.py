"""A run over two hosts, as network namespaces: scripts/two-hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "clusters" / "two_hosts.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "two hosts with 2 processes each wrote the bytes of one process: metrics.jsonl, "),
        (("--cut",), "stopped: rank [23] gave no sign of life"),  # both are on the host that is cut off
    ],
    ids=["whole", "cut"],
)
def test_a_run_over_two_hosts(argv: tuple[str, ...], said: str, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), *argv]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500, check=False)
    if done.stdout.startswith("skipped: "):
        pytest.skip(done.stdout)  # namespaces need Linux and root; the script says which is missing
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(said, done.stdout), done.stdout
    assert subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout == ""
    left = subprocess.run(["pgrep", "-f", "rlhf_cli train .*/rlhf-hosts-"], capture_output=True, text=True, check=False)
    assert left.stdout == ""
