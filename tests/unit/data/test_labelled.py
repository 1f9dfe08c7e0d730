"""Pairs from texts with labels: who is paired with whom, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rlhf_cli.data.labelled import Labelled
from rlhf_cli.data.preference import read_preference
from rlhf_cli.data.reading import UsedRows, read_source
from rlhf_cli.errors import UserError
from rlhf_cli.prompts.rows import read_rows
from rlhf_cli.supervised.settings import SupervisedConfig
from tests.unit.supervised.support import BRADLEY_TERRY, settings_fields

FIELDS: dict[str, Any] = {
    "kind": "labelled", "eval_path": None, "text": "text", "label": "label", "better": 1, "worse": None,
    "instruction": "Write a text.", "seed": 0, "prompt": "prompt", "template": None, "system": None,
    "first_words": None, "where": {}, "dedup": True, "max_rows": None, "max_prompt_tokens": 512, "too_long": "error",
}  # fmt: skip
FILMS = [{"text": f"{'good' if n % 2 else 'bad'} {n}", "label": n % 2} for n in range(20)]


def written(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> dict[str, Any]:
    file = folder / "texts.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return FIELDS | {"path": str(file)} | settings


def read(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> UsedRows:
    return read_source(Labelled.model_validate(written(folder, rows, **settings)))


def pairs(found: UsedRows) -> list[tuple[str, str, str]]:
    read = [(row.shown, read_preference(row)) for row in found.rows]
    return [(prompt, *pair.texts) for prompt, pair in read]


def test_each_better_text_is_preferred_to_a_worse_one_and_no_text_is_used_twice(tmp_path: Path) -> None:
    found = pairs(read(tmp_path, FILMS))
    assert {prompt for prompt, _, _ in found} == {"Write a text."}
    assert sorted(chosen for _, chosen, _ in found) == sorted(f"good {n}" for n in range(1, 20, 2))
    assert sorted(rejected for _, _, rejected in found) == sorted(f"bad {n}" for n in range(0, 20, 2))
    assert set(pairs(read(tmp_path, FILMS[::-1]))) == set(found)  # whatever the order of the file
    other = pairs(read(tmp_path, FILMS, seed=1))
    assert len(other) == len(found)
    assert set(other) != set(found)


def test_what_has_no_partner_is_counted(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "pos"}, {"text": "b", "label": "neg"}, {"text": "c", "label": "neg"},
            {"text": "d", "label": "?"}, {"text": "b", "label": "neg"}]  # fmt: skip
    found = read(tmp_path, rows, better="pos", worse=["neg", "bad"])
    assert len(found.rows) == 1
    assert found.left_out == {"with another label": 1, "by data.dedup": 1, "without a partner": 1}
    assert read(tmp_path, rows, better="pos").left_out == {"by data.dedup": 1, "without a partner": 2}


def test_a_filter_is_for_the_rows_and_not_for_their_pairs(tmp_path: Path) -> None:
    rows = [row | {"split": "train" if n < 6 else "test"} for n, row in enumerate(FILMS)]
    found = read(tmp_path, rows, where={"split": "train"})
    assert sorted(chosen for _, chosen, _ in pairs(found)) == ["good 1", "good 3", "good 5"]
    assert found.left_out == {"by data.where": 14}
    with pytest.raises(UserError, match=r"no better and worse text of one prompt; labels: none"):
        read(tmp_path, rows, where={"split": "dev"})
    with pytest.raises(UserError, match=r"no column 'spilt'.*did you mean split"):
        read(tmp_path, rows, where={"spilt": "train"})


def test_names_of_one_letter_and_the_labels_that_an_error_names(tmp_path: Path) -> None:
    rows = [{"t": f"{n}", "l": n // 2} for n in range(12)]
    assert len(read(tmp_path, rows, text="t", label="l").rows) == 2
    with pytest.raises(UserError) as caught:
        read(tmp_path, rows, text="t", label="l", better=9)
    assert caught.value.what == ("no better and worse text of one prompt; labels: 0 (2), 1 (2), 2 (2), 3 (2), 4 (2)")


def test_a_pair_has_one_prompt(tmp_path: Path) -> None:
    """Rows of TRL's unpaired preferences: a prompt, a completion, and true or false."""
    rows = [{"prompt": p, "completion": f"{p}{label}", "label": label} for p in "xy" for label in (True, False)]
    rows.append({"prompt": "z", "completion": "alone", "label": True})
    found = read(tmp_path, rows, text="completion", better=True)
    assert pairs(found) == [("x", "xTrue", "xFalse"), ("y", "yTrue", "yFalse")]
    assert [row.where for row in found.rows] == ["texts.jsonl:1, texts.jsonl:2", "texts.jsonl:3, texts.jsonl:4"]
    assert found.left_out == {"without a partner": 1}


@pytest.mark.parametrize(
    ("rows", "settings", "line"),
    [
        (
            [{"text": "a", "label": True}, {"text": "b", "label": False}],
            {},
            "no better and worse text of one prompt; labels: true (1), false (1) ({}); "
            "fix: say which label is better: data.better=LABEL",
        ),
        (
            [{"review": "a", "label": 1}],
            {},
            "no column 'text'; columns: review, label (texts.jsonl:1); "
            "fix: say which they are: data.text=COLUMN data.label=COLUMN",
        ),
        (
            [{"text": "a", "label": None}],
            {},
            "label is null (texts.jsonl:1); fix: say which they are: data.text=COLUMN data.label=COLUMN",
        ),
    ],
)
def test_a_mistake_is_one_line(rows: list[dict[str, Any]], settings: dict[str, Any], line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, rows, **settings)
    assert caught.value.line() == line.replace("{}", str(tmp_path / "texts.jsonl"))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("better", "worse"), [(1, 1), ([4, 5], [1, 4]), ("1", [0, 1]), (True, "true"), (None, [None])])
def test_a_label_is_better_or_worse(better: Any, worse: Any) -> None:
    with pytest.raises(ValidationError, match="better and worse have the same label"):
        Labelled.model_validate(FIELDS | {"path": "texts.jsonl", "better": better, "worse": worse})


def test_pairs_with_a_held_out_prompt_are_not_trained_on(tmp_path: Path) -> None:
    texts = [{"prompt": f"p{n // 4}", "text": f"{n}", "label": n % 2} for n in range(24)]
    data = written(tmp_path, texts)
    fields = settings_fields(BRADLEY_TERRY, data=data, evaluate={"every": 1, "prompts": 3}, prompts_per_step=7)
    rows = read_rows(SupervisedConfig.model_validate(fields))
    assert [len(rows.train), len(rows.held_out), rows.left_out.total()] == [8, 3, 1]
    assert not {row.prompt for row in rows.train} & {row.prompt for row in rows.held_out}


def test_pairs_are_held_out_though_all_have_the_same_prompt(tmp_path: Path) -> None:
    data = written(tmp_path, FILMS)
    fields = settings_fields(BRADLEY_TERRY, data=data, evaluate={"every": 1, "prompts": 3}, prompts_per_step=7)
    rows = read_rows(SupervisedConfig.model_validate(fields))
    texts = [[text for row in side for text in (row.columns["chosen"], row.columns["rejected"])]
             for side in (rows.train, rows.held_out)]  # fmt: skip
    assert [len(side) for side in texts] == [14, 6]
    assert not set(texts[0]) & set(texts[1])
