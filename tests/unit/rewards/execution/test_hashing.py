"""The files that a function consists of, and files that are named like libraries."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from rlhf_cli.rewards.execution.process import RewardProcess

CODE = "import beside, json, torch_free\ndef f(completions):\n    return [beside.score] * len(completions)\n"


@pytest.mark.case(62)
def test_the_files_that_it_imports_count_as_its_own(tmp_path: Path) -> None:
    def sha256() -> str | None:
        process = RewardProcess(f"{tmp_path}/rewards.py:f", None, 20.0, None)
        try:
            return process.start(lambda: None).sha256
        finally:
            process.close()

    (tmp_path / "rewards.py").write_text(CODE)
    (tmp_path / "beside.py").write_text("score = 1")
    (tmp_path / "torch_free.py").write_text("import sys, types\nsys.modules['odd'] = types.ModuleType('odd')\n")
    first = sha256()
    assert sha256() == first
    (tmp_path / "unused.py").write_text("")
    assert sha256() == first
    (tmp_path / "beside.py").write_text("score = 2")
    assert sha256() != first
    (tmp_path / "rewards.py").write_text("def f(completions): pass")
    assert sha256() == hashlib.sha256(b"def f(completions): pass").hexdigest()


@pytest.mark.case(69)
def test_a_file_named_like_a_library_may_import_it(tmp_path: Path) -> None:
    for name, code in (
        ("math", "math.sqrt(16)"),
        ("statistics", "statistics.fmean([4])"),
        ("yaml", "yaml.safe_load('4')"),
    ):
        file = tmp_path / f"{name}.py"
        file.write_text(f"import {name}\nimport beside\ndef f(completions):\n    return [{code}]\n")
        (tmp_path / "beside.py").write_text("")
        process = RewardProcess(f"{file}:f", None, 20.0, None)
        process.start(lambda: None)
        assert process.call({"completions": ["a"]}, 1, 0, lambda: None) == [4.0]
        process.close()
