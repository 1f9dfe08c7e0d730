"""The prompts of a run, divided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.data.order import held_out_rows
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.pipeline.rows import Rows, read_rows
from rlhf_cli.schema import RunConfig
from tests.unit.support import config_of


def write(file: Path, count: int, prefix: str) -> str:
    file.write_text("".join(json.dumps({"prompt": f"{prefix} {i}"}) + "\n" for i in range(count)))
    return str(file)


def run_of(
    tmp_path: Path, *, rows: int = 10, eval_rows: int | None = None, every: int = 1, prompts: int = 3, **changes: Any
) -> RunConfig:
    data = {
        "kind": "jsonl",
        "path": write(tmp_path / "train.jsonl", rows, "train"),
        "eval_path": None if eval_rows is None else write(tmp_path / "eval.jsonl", eval_rows, "eval"),
        "max_prompt_tokens": 32,
        "too_long": "error",
    }
    return config_of(data=data, evaluate={"every": every, "prompts": prompts, "samples": 1}, **changes)


def names(rows: Rows) -> tuple[list[str], list[str]]:
    return [row.shown for row in rows.train], [row.shown for row in rows.held_out]


def test_a_file_of_held_out_prompts_gives_its_first_ones(tmp_path: Path) -> None:
    train, held_out = names(read_rows(run_of(tmp_path, rows=4, eval_rows=5)))
    assert train == ["train 0", "train 1", "train 2", "train 3"]
    assert held_out == ["eval 0", "eval 1", "eval 2"]


def test_without_one_some_rows_are_set_aside_by_the_seed(tmp_path: Path) -> None:
    train, held_out = names(read_rows(run_of(tmp_path, seed=5)))
    kept, aside = held_out_rows(10, 3, 5)
    assert train == [f"train {row}" for row in kept]
    assert held_out == [f"train {row}" for row in aside]


def test_a_run_that_never_evaluates_trains_on_every_row(tmp_path: Path) -> None:
    train, held_out = names(read_rows(run_of(tmp_path, every=0)))
    assert (len(train), held_out) == (10, [])


@pytest.mark.parametrize(
    ("sizes", "found", "where"), [({"rows": 2}, 2, "train.jsonl"), ({"rows": 9, "eval_rows": 1}, 1, "eval.jsonl")]
)
def test_too_few_held_out_prompts_are_refused(tmp_path: Path, sizes: dict[str, int], found: int, where: str) -> None:
    with pytest.raises(UserError) as caught:
        read_rows(run_of(tmp_path, **sizes))
    assert caught.value.exit_code == EXIT_DATA == 3
    assert caught.value.line() == (
        f"{found} held-out prompts, fewer than evaluate.prompts=3 ({tmp_path / where}); "
        "fix: give more prompts, lower evaluate.prompts, or switch evaluation off (evaluate.every=0)"
    )


def test_a_run_that_never_evaluates_may_have_too_few(tmp_path: Path) -> None:
    assert len(read_rows(run_of(tmp_path, eval_rows=1, every=0)).held_out) == 1


def test_a_mistake_in_either_file_is_named(tmp_path: Path) -> None:
    config = run_of(tmp_path, eval_rows=5)
    (tmp_path / "eval.jsonl").write_text('{"prompt": 3}\n')
    with pytest.raises(UserError, match=r"^prompt is a number \(eval\.jsonl:1\)"):
        read_rows(config)
    (tmp_path / "train.jsonl").write_text("\n{}\n")
    with pytest.raises(UserError, match=r"^no column 'prompt'; columns: none \(train\.jsonl:2\)"):
        read_rows(config)
