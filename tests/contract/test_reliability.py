"""The scorecard is kept: each of the fifty cases has a test, and the page lists them as they are promised."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.reliability.scorecard import CASES

ROOT = Path(__file__).parents[2]


def test_there_are_fifty_cases() -> None:
    assert list(CASES) == list(range(1, 51))


def test_every_case_has_a_test() -> None:
    """And every test's case is one of them."""
    command = [sys.executable, "scripts/crashes/reliability.py", "--cases"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"^case (\d+): \d+ in ", done.stdout, re.MULTILINE)
    assert list(map(int, found)) == list(CASES)


def test_the_page_lists_what_is_promised() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| .+ \| passed, [\d.]+ s \|$", page, re.MULTILINE)
    assert rows == [(str(number), case.fault, case.promise) for number, case in CASES.items()]
