"""Tens of thousands of rows are nothing, and a mistake in the last of them is found before torch is loaded."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf_cli.data.reading import read_source
from rlhf_cli.data.split import fingerprint, set_aside
from tests.unit.support import source_of

ROWS = 30_000
SECONDS = 4.0
"""Generous: docs/data.md has what was measured."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("large") / "p.jsonl"
    text = "of the things that people ask about rain and rivers " * 4
    with file.open("w") as rows:
        rows.writelines(f'{{"prompt": "{number % 18_000} {text}", "level": {number % 5}}}\n' for number in range(ROWS))
    return file


def test_rows_are_read_filtered_and_divided_in_time(large: Path) -> None:
    begun = time.process_time()
    found = read_source(source_of(large, dedup=True, where={"level": [0, 1, 2, 3]}))
    train, held_out, twins = set_aside(found.rows, 64)
    digest = fingerprint(train)
    assert time.process_time() - begun < SECONDS
    # one level of five is left out; of the others, the 12,000 numbers that come again
    assert found.left_out == {"by data.where": 6_000, "by data.dedup": 9_600}
    assert (len(train), len(held_out), twins) == (14_400 - 64, 64, 0)
    assert digest != fingerprint(train[1:])


def test_a_mistake_in_the_last_row_is_named_before_torch_is_loaded(large: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    *lines, _ = large.read_text().splitlines()
    file.write_text("\n".join([*lines, '{"promt": "x"}']))
    program = (
        "import sys\nfrom rlhf_cli.cli import run\n"
        f"code = run(['train', 'config=tiny', 'data=jsonl', 'data.path={file}'])\nassert 'torch' not in sys.modules\n"
        "sys.exit(code)"
    )
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert outcome.returncode == 3, outcome.stderr
    assert outcome.stderr.startswith(f"error: no column 'prompt'; columns: promt (bad.jsonl:{ROWS})")
