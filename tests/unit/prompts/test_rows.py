"""The prompts of a run, divided."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.prompts.rows import Rows, check_enough, read_all, read_rows
from rlhf_cli.schema import RunConfig
from tests.unit.support import SHAPING, Recorder, config_of, data_fields

EXACT = {"kind": "exact_match", "extract": None, "extract_expected": None, "ignore_case": True, "strip": True}
EXACT |= {"seconds": 1.0, "timeout_s": 9.0, "retries": 0, "on_error": "stop", "error_value": 0.0}


def write(file: Path, count: int, prefix: str) -> str:
    file.write_text("".join(json.dumps({"prompt": f"{prefix} {i}"}) + "\n" for i in range(count)))
    return str(file)


def run_of(
    tmp_path: Path,
    *,
    rows: int = 10,
    eval_rows: int | None = None,
    every: int = 1,
    prompts: int = 3,
    data: dict[str, Any] | None = None,
    **changes: Any,
) -> RunConfig:
    data = data_fields(
        path=write(tmp_path / "train.jsonl", rows, "train"),
        eval_path=None if eval_rows is None else write(tmp_path / "eval.jsonl", eval_rows, "eval"),
        **(data or {}),
    )
    return config_of(data=data, evaluate={"every": every, "prompts": prompts, "samples": 1}, **changes)


def names(rows: Rows) -> tuple[list[str], list[str]]:
    return [row.shown for row in rows.train], [row.shown for row in rows.held_out]


def test_a_file_of_held_out_prompts_gives_its_first_ones(tmp_path: Path) -> None:
    train, held_out = names(read_rows(run_of(tmp_path, rows=4, eval_rows=5)))
    assert train == ["train 0", "train 1", "train 2", "train 3"]
    assert held_out == ["eval 0", "eval 1", "eval 2"]


def test_without_one_some_rows_are_set_aside_whatever_the_seed(tmp_path: Path) -> None:
    train, held_out = names(read_rows(run_of(tmp_path, seed=5)))
    assert (len(train), len(held_out)) == (7, 3)
    assert sorted(train + held_out) == [f"train {row}" for row in range(10)]
    assert names(read_rows(run_of(tmp_path, seed=6))) == (train, held_out)


def test_a_run_that_never_evaluates_trains_on_every_row(tmp_path: Path) -> None:
    train, held_out = names(read_rows(run_of(tmp_path, every=0)))
    assert (len(train), held_out) == (10, [])


@pytest.mark.parametrize(
    ("sizes", "found", "where"),
    [
        ({"rows": 2}, "2 held-out prompts", "train.jsonl"),
        ({"rows": 9, "eval_rows": 1}, "1 held-out prompt", "eval.jsonl"),
    ],
)
def test_too_few_held_out_prompts_are_refused(tmp_path: Path, sizes: dict[str, int], found: str, where: str) -> None:
    with pytest.raises(UserError) as caught:
        read_rows(run_of(tmp_path, **sizes))
    assert caught.value.exit_code == EXIT_DATA == 3
    assert caught.value.line() == (
        f"{found}, fewer than evaluate.prompts=3 ({tmp_path / where}); "
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


@pytest.mark.parametrize("eval_rows", [None, 3])
def test_a_key_in_a_column_of_the_reward_is_refused(eval_rows: int | None, tmp_path: Path) -> None:
    match = EXACT | {"column": "answer"} | SHAPING
    config = run_of(tmp_path, eval_rows=eval_rows, reward=match)
    file = tmp_path / ("train.jsonl" if eval_rows is None else "eval.jsonl")
    with file.open("a") as rows:
        rows.write(json.dumps({"prompt": "last", "answer": "ghp_" + "aB3" * 12, "note": "hf_" + "aB3" * 11}) + "\n")
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"prompts": 4})})
    with pytest.raises(UserError, match=r"^the column answer holds what looks like a GitHub token"):
        read_rows(config)
    read_rows(config.model_copy(update={"reward": config_of().reward}))  # it reads no column


def test_what_is_left_out_is_said_in_one_line(tmp_path: Path) -> None:
    config = run_of(tmp_path, data={"dedup": True, "where": {"level": [1, 2]}, "max_rows": 4})
    lines = [{"prompt": f"{i % 3}", "level": i % 4} for i in range(12)]
    # levels 1 and 2 of prompts 1 2 2 0 0 1: 1, 2, 0 are new; six rows of the others, three that came before
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = read_rows(config)
    assert rows.left_out == {"by data.where": 6, "by data.dedup": 3}
    said = rows.describe(0, 2, Counter({"longer than 9 tokens": 1}))
    assert said == ("data: 12 rows; 6 by data.where, 3 by data.dedup, 1 longer than 9 tokens left out; 2 used")


def test_rows_that_either_file_leaves_out_are_counted_together(tmp_path: Path) -> None:
    config = run_of(tmp_path, eval_rows=5, data={"where": {"level": 1}})
    for name, levels in (("train", (1, 2, 1, 2)), ("eval", (1, 1, 2, 1))):
        lines = [{"prompt": f"{name} {i}", "level": level} for i, level in enumerate(levels)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_rows(config).left_out == {"by data.where": 3}


def test_all_rows_may_be_read_as_held_out_ones(tmp_path: Path) -> None:
    watch = Recorder()
    rows = read_all(run_of(tmp_path, data={"max_rows": 9}), watch)
    assert names(rows) == ([], [f"train {row}" for row in range(9)])
    assert watch.notes == ["data: 9 rows, up to data.max_rows; 9 used"]


def test_a_value_of_a_filter_that_no_row_has_is_said(tmp_path: Path) -> None:
    config = run_of(tmp_path, data={"where": {"level": [1, 2]}})
    lines = [{"prompt": f"{i}", "level": 1} for i in range(5)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = read_rows(config).describe(2, 3, Counter())
    assert said == "data: 5 rows; 2 to train on, 3 held out; no row has level: 2 (data.where)"


def test_where_nothing_is_left_out_nothing_is_said(tmp_path: Path) -> None:
    assert read_rows(run_of(tmp_path)).describe(7, 3, Counter()) is None


def test_rows_behind_max_rows_are_said(tmp_path: Path) -> None:
    rows = read_rows(run_of(tmp_path, data={"max_rows": 9}))
    assert rows.describe(6, 3, Counter()) == "data: 9 rows, up to data.max_rows; 6 to train on, 3 held out"
    assert read_rows(run_of(tmp_path, data={"max_rows": 10})).describe(7, 3, Counter()) is None


def test_held_out_prompts_of_a_file_that_are_trained_on_too_are_said(tmp_path: Path) -> None:
    config = run_of(tmp_path, eval_rows=5)
    write(tmp_path / "eval.jsonl", 3, "train")
    rows = read_rows(config)
    assert rows.describe(10, 3, Counter()) == (
        "data: 13 rows; 10 to train on, 3 held out; 3 of those trained on as well"
    )


def test_as_many_prompts_as_a_step_takes_are_enough(tmp_path: Path) -> None:
    config = run_of(tmp_path, eval_rows=3)
    rows = read_rows(config)
    check_enough(rows, [2], config)
    with pytest.raises(UserError, match=r"^1 training prompt, fewer than prompts_per_step=2") as caught:
        check_enough(rows, [1], config)
    assert caught.value.where == str(tmp_path / "train.jsonl")


def test_too_few_prompts_are_refused_with_what_was_left_out(tmp_path: Path) -> None:
    config = run_of(tmp_path, rows=4)
    (tmp_path / "train.jsonl").write_text('{"prompt": "same"}\n' * 4)
    rows = read_rows(config)
    with pytest.raises(UserError) as caught:
        check_enough(rows, [0], config)
    assert caught.value.what == "0 training prompts (1 with a held-out prompt left out), fewer than prompts_per_step=2"
    assert caught.value.fix == "give the held-out rows a file of their own (data.eval_path), or none (evaluate.every=0)"
    assert caught.value.exit_code == EXIT_DATA


def test_too_few_of_those_up_to_max_rows_are_laid_to_it(tmp_path: Path) -> None:
    few = run_of(tmp_path, data={"max_rows": 2})
    with pytest.raises(UserError, match=r"^2 held-out prompts, fewer than") as caught:
        read_rows(few)
    assert caught.value.fix is not None
    assert caught.value.fix.startswith("raise data.max_rows, lower evaluate.prompts")
    config = run_of(tmp_path, data={"max_rows": 4})
    with pytest.raises(UserError, match=r"^1 training prompt, fewer than") as caught:
        check_enough(read_rows(config), [1], config)
    assert caught.value.fix is not None
    assert caught.value.fix.startswith("raise data.max_rows, or lower prompts_per_step")


class TestMixture:
    """Each part is read by its own settings."""

    @staticmethod
    def config(tmp_path: Path, **of_b: Any) -> RunConfig:
        parts = {
            "a": data_fields(path=write(tmp_path / "a.jsonl", 9, "a")),
            "b": data_fields(path=write(tmp_path / "b.jsonl", 6, "b"), **of_b),
        }
        data = {"kind": "mixture", "parts": parts, "weights": {"a": 3.0, "b": 1.0}}
        return config_of(data=data, evaluate={"every": 1, "prompts": 4, "samples": 1})

    def test_held_out_prompts_come_by_weight(self, tmp_path: Path) -> None:
        rows = read_rows(self.config(tmp_path))
        assert [(part.name, len(part.train), len(part.held_out)) for part in rows.parts] == [("a", 6, 3), ("b", 5, 1)]
        assert {row.columns["data_part"] for row in rows.train if row.shown.startswith("b")} == {"b"}
        assert rows.columns == {"data_part"}

    def test_a_part_may_have_a_file_of_them(self, tmp_path: Path) -> None:
        rows = read_rows(self.config(tmp_path, eval_path=write(tmp_path / "e.jsonl", 2, "e"), max_rows=5))
        assert [row.shown for row in rows.parts[1].held_out] == ["e 0"]
        assert len(rows.parts[1].train) == 5

    def test_a_column_of_that_name_is_not_hidden(self, tmp_path: Path) -> None:
        config = self.config(tmp_path)
        (tmp_path / "b.jsonl").write_text('{"prompt": "x", "data_part": 3}\n' * 6)
        with pytest.raises(UserError, match=r"^a column 'data_part', into which a mixture writes .* name \(b\.jsonl:1"):
            read_rows(config)

    def test_a_part_without_prompts_is_named(self, tmp_path: Path) -> None:
        config = self.config(tmp_path, eval_path=write(tmp_path / "e.jsonl", 2, "e"))
        with pytest.raises(UserError, match=r"^no training prompt in part 'b'") as caught:
            check_enough(read_rows(config), [6, 0], config)
        assert caught.value.where == str(tmp_path / "b.jsonl")
        assert caught.value.exit_code == EXIT_DATA
