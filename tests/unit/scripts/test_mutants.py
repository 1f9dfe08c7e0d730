"""scripts/mutation/mutants.py: the mistakes that are tried, and how each is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts import load

mutants = load("mutation/mutants.py")


def texts_of(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (folder / "module.py").write_text(code)
    monkeypatch.setattr(mutants, "ROOT", folder)
    return [mutant.text for mutant in mutants.mutants("module.py")]


@pytest.mark.parametrize(
    ("line", "others"),
    [
        ("x = a + b", ["x = a - b", "x = a", "x = b"]),
        ("x = a - b", ["x = a + b", "x = a", "x = -b"]),
        ("x = a / b", ["x = a * b", "x = a"]),
        ("x = a < b", ["x = a <= b", "x = a >= b"]),
        ("x = not a", ["x = a"]),
        ("x = a[-1]", ["x = a[-2]"]),
        ("x = True", ["x = False"]),
        ("x = max(a, b)", ["x = min(a, b)"]),
        ("x = a.sum()", ["x = a.mean()"]),
        ("x = sum(a)", []),  # there is no mean to mistake it for
        ("x = f(max=a)", ["x = f(min=a)"]),
        ("x = a.detach()", ["x = a"]),
    ],
)
def test_each_mistake_is_named_by_what_it_makes_of_the_line(
    line: str, others: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert texts_of(line, tmp_path, monkeypatch) == [f"{line} -> {other}" for other in others]


def test_a_number_in_a_long_statement_is_named_with_its_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = ", ".join(f"parameter_{n}" for n in range(9))
    code = "".join(f"def {name}({parameters}, *, last=0):\n    return last\n" for name in ("one", "two"))
    assert texts_of(code, tmp_path, monkeypatch) == ["0 -> 1 in one", "0 -> 1 in two"]


def test_a_head_is_shown_without_its_decorators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = texts_of("@decorated(1)\ndef one(last=0):\n    pass\n", tmp_path, monkeypatch)
    assert text == "def one(last=0): -> def one(last=1):"
