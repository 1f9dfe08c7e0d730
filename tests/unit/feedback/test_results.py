"""feedback.results: of one file, and of a run's steps."""

from __future__ import annotations

from pathlib import Path

from rlhf_cli.feedback.pairs import read_pairs, write_rows
from rlhf_cli.feedback.preference import Row
from rlhf_cli.feedback.results import describe_results, newest, read_results
from rlhf_cli.feedback.votes import VoteFile
from tests.unit.feedback.samples import vote


def file_of(folder: Path, name: str, words: str) -> Path:
    file = folder / "feedback" / f"{name}.jsonl"
    write_rows(file, [Row(f"prompt {n}", f"{name} {n}", "other", None) for n in range(4)])
    for pair, word in zip(read_pairs(file), words, strict=False):
        VoteFile(file).append(vote(pair, "a" if word == "a" else "b", chance=1 / 4))
    return file


def titles(file: Path) -> tuple[str, str]:
    return file.stem, "reference"


def test_all_of_the_newest_and_a_line_a_step(tmp_path: Path) -> None:
    files = [file_of(tmp_path, name, words) for name, words in (("4", "aabb"), ("8", "aaaa"), ("12", ""))]
    results = read_results(files, titles)
    last = newest(results)
    assert last is not None
    assert (last.titles, last.row()["result"]["votes"], last.row()["pairs_file"]) == (
        ("8", "reference"),
        4,
        str(files[1]),
    )
    assert (last.row()["a"], last.row()["b"]) == ("8", "reference")
    lines = list(describe_results(results))
    assert lines[0] == ("compared", "8 (a) against reference (b)")
    assert lines[-2:] == [
        ("by step", "4 50.0% [15.0%, 85.0%] against reference, 4 votes"),
        ("", "8 100.0% [51.0%, 100.0%] against reference, 4 votes"),
    ]


def test_one_file_has_no_lines_of_steps_and_none_has_one_line(tmp_path: Path) -> None:
    results = read_results([file_of(tmp_path, "4", "a")], titles)
    assert "by step" not in dict(describe_results(results))
    assert list(describe_results([])) == [("pairs", "none yet")]
    broken = file_of(tmp_path, "8", "")
    broken.write_text("{")
    assert read_results([broken], titles) == []
