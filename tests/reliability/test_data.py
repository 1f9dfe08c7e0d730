"""Prompts that are wrong are refused by file and line before anything is made; prompts that are odd go through."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.models.tiny import END
from rlhf_cli.ranks import sharding
from tests.support import Outcome, lines

Rlhf = Callable[..., Outcome]
GOOD = '{"prompt": "Say it."}\n'
ELEVEN = "".join(f'{{"prompt": "Say {number}."}}\n' for number in range(11))
DATA = ("config=tiny", "model.layers=1", "samples_per_prompt=2", "data=jsonl", "data.path=p.jsonl")


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model is a bug (exit 1)."""

    def load_models(config: object, note: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(sharding, "load_models", load_models)


def refused(outcome: Outcome, said: str, folder: Path) -> None:
    """Exit 3, one line, and nothing in the folder but what was there."""
    assert outcome.code == 3, outcome.err
    assert outcome.err.startswith(f"error: {said}"), outcome.err
    assert "; fix: " in outcome.err
    assert outcome.err.count("\n") == 1
    assert {path.name for path in folder.iterdir()} <= {"p.jsonl", "e.jsonl"}


@pytest.mark.case(44)
@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        ("", [], "the prompt file is empty ("),
        (GOOD * 7, [], "7 held-out prompts, fewer than evaluate.prompts=8 ("),
        (GOOD * 11, [], "0 training prompts (3 with a held-out prompt left out), fewer than prompts_per_step=8 ("),
        (ELEVEN, [], "3 training prompts, fewer than prompts_per_step=8 ("),
        (GOOD * 3, ["evaluate.every=0"], "3 training prompts, fewer than prompts_per_step=8 ("),
        (GOOD * 3, ["evaluate.every=0", "resume=auto"], "3 training prompts, fewer than prompts_per_step=8 ("),
    ],
)
def test_too_few_prompts(content: str, more: list[str], said: str, rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(content, encoding="utf-8")
    refused(rlhf("train", *DATA, "run_dir=out", *more), said, tmp_path)


@pytest.mark.case(44)
def test_just_enough_prompts(rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(GOOD * 8)
    few = ("evaluate.every=0", "steps=2", "display=quiet", "run_dir=out")
    assert rlhf("train", *DATA, *few).code == 0
    assert len(lines(tmp_path / "out" / "metrics.jsonl")) == 2


@pytest.mark.case(45)
@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"Prompt": "x"}', "no column 'prompt'; columns: Prompt (p.jsonl:3); fix: rename 'Prompt' to prompt"),
        ('{"prompt": null}', "prompt is null (p.jsonl:3)"),
        ('{"prompt": ""}', "the prompt is empty (p.jsonl:3)"),
    ],
)
def test_a_bad_row(row: str, said: str, rlhf: Rlhf, tmp_path: Path) -> None:
    """Every kind of bad row is in tests/unit/data/test_jsonl.py."""
    (tmp_path / "p.jsonl").write_text(f"{GOOD}\n{row}\n{GOOD * 20}")
    refused(rlhf("train", *DATA), said, tmp_path)
    (tmp_path / "e.jsonl").write_text(GOOD * 20)
    (tmp_path / "p.jsonl").rename(tmp_path / "x")
    (tmp_path / "e.jsonl").rename(tmp_path / "p.jsonl")
    (tmp_path / "x").rename(tmp_path / "e.jsonl")
    refused(rlhf("train", *DATA, "data.eval_path=e.jsonl"), said.replace("p.jsonl", "e.jsonl"), tmp_path)


@pytest.mark.case(45)
@pytest.mark.usefixtures("no_model")
def test_bytes_that_are_no_text(rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b'{"prompt": "\xff"}\n')
    refused(rlhf("train", *DATA), "not UTF-8 text (p.jsonl:1)", tmp_path)


@pytest.mark.case(46)
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["model.context=32"],
            "the prompt has 40 tokens, more than 20 (the model's 32 less max_new_tokens) (p.jsonl:17)",
        ),
        (["data.max_prompt_tokens=39"], "the prompt has 40 tokens, more than 39 (data.max_prompt_tokens) (p.jsonl:17)"),
    ],
)
def test_a_prompt_that_is_too_long(more: list[str], said: str, rlhf: Rlhf, tmp_path: Path) -> None:
    """The byte tokenizer makes a token of each character; the preset writes 12."""
    (tmp_path / "p.jsonl").write_text(GOOD * 16 + json.dumps({"prompt": "x" * 40}) + "\n")
    few = ("steps=4", "evaluate.every=0", "display=quiet", "run_dir=out")
    outcome = rlhf("train", *DATA, *few, *more)
    assert outcome.code == 3
    assert outcome.err.startswith(f"error: {said}; fix: shorten it")
    assert outcome.err.count("\n") == 1
    dropped = rlhf("train", *DATA, *few, *more, "data.too_long=drop", "run_dir=drop")
    assert dropped.code == 0, dropped.err
    assert "note: data: 17 rows; 1 longer than " in dropped.err
    assert {row["prompt"] for row in lines(tmp_path / "drop" / "samples.jsonl")} == {"Say it."}


@pytest.mark.case(46)
def test_when_all_are_too_long_there_are_none(rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text((json.dumps({"prompt": "x" * 40}) + "\n") * 9)
    few = ("evaluate.every=0", "display=quiet", "run_dir=out", "data.too_long=drop", "data.max_prompt_tokens=39")
    outcome = rlhf("train", *DATA, *few)
    assert outcome.code == 3
    assert "error: 0 training prompts, fewer than prompts_per_step=8 (" in outcome.err


ODD = (
    "naïve 日本語 🏳️‍🌈 e\u0301",
    "nothing\x00inside",
    "\u202eright to left\u202c",
    "\u2028line\u2029ends\x85\x0b\x0c",
    f"special {END} tokens <|im_end|> <s> [INST]",
    "\x1b[2J\x1b]0;title\x07 of a terminal",
    "\ufeffmark",
    "quotes \" ' \\ \\n {{ x }} {% raw %} ${steps} %s [bold]x[/bold]",
)


@pytest.mark.case(47)
@pytest.mark.parametrize("display", ["plain", "live"])
def test_odd_prompts_go_through_and_drive_no_terminal(display: str, rlhf: Rlhf, tmp_path: Path) -> None:
    rows = [{"prompt": text, "id": text} for text in ODD]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    (tmp_path / "escaped.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    few = ("steps=2", "prompts_per_step=4", "log_samples=99", "run_dir=out")
    few += ("evaluate.every=1", "evaluate.prompts=8", "evaluate.samples=2")
    outcome = rlhf("train", *DATA, "data.eval_path=escaped.jsonl", *few, f"display={display}")
    assert outcome.code == 0, outcome.err
    assert {row["prompt"] for row in lines(tmp_path / "out" / "samples.jsonl")} == set(ODD)
    assert {row["prompt"] for row in json.loads((tmp_path / "out" / "result.json").read_text())["texts"]} <= set(ODD)
    shown = outcome.out + outcome.err
    for driving in ("\x1b]0;title", "\x07", "\u202e", "\x00", "\u2028"):
        assert driving not in shown
    if display == "plain":
        assert "\x1b[2J" not in shown
