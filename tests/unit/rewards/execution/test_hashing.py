"""The files that a function consists of, and files that are named like libraries."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from rlhf_cli.rewards.execution.hashing import hash_with_imports
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


def test_a_relative_import_beyond_the_root_names_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewards.py").write_text(code := f"def f(completions):\n    from {'.' * 99}a import b")
    assert hash_with_imports(str(tmp_path / "rewards.py")) == hashlib.sha256(code.encode()).hexdigest()


def test_and_those_that_it_will_import_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pack" / "deep").mkdir(parents=True)
    for name, code in {
        "rewards.py": "def f(completions):\n    from pack.deep import one\n    import json, absent",
        "pack/__init__.py": "",
        "pack/deep/__init__.py": "",
        "pack/deep/one.py": "def g():\n    from ..two import x",
        "pack/two.py": "def g(:",  # that it is no Python is said by the import
        "json.py": "",
        "unused.py": "",
    }.items():
        (tmp_path / name).write_text(code)
    first = hash_with_imports("rewards.py")
    for name, counts in {
        "pack/__init__.py": True,
        "pack/deep/__init__.py": True,
        "pack/deep/one.py": True,
        "pack/two.py": True,
        "json.py": False,
        "unused.py": False,
    }.items():
        before = (tmp_path / name).read_text()
        (tmp_path / name).write_text(f"{before}\n")
        assert (hash_with_imports("rewards.py") != first) == counts, name
        (tmp_path / name).write_text(before)
    assert hash_with_imports("rewards.py") == first


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
