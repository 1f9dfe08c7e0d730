"""Several rewards at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from rlhf_cli.errors import UserError
from rlhf_cli.rewards.execution.retrying import ScoreRequest
from rlhf_cli.rewards.execution.scorer import Scores, SourceScorer
from rlhf_cli.rewards.kinds.weighted import Weighted
from rlhf_cli.rewards.reward import AnySource
from rlhf_cli.types import PromptRow

TONE, LETTERS = {"kind": "sentiment"}, {"kind": "characters", "characters": "ab"}
ROWS = [PromptRow("p", {}, "p.jsonl:1"), PromptRow("q", {}, "p.jsonl:2")]


def weighted(parts: dict[str, Any], weights: dict[str, float]) -> Weighted:
    given = {"kind": "weighted", "parts": parts, "weights": weights}
    source = TypeAdapter(AnySource).validate_python(given)
    assert isinstance(source, Weighted)
    return source


def function(file: Path, code: str, **settings: Any) -> dict[str, Any]:
    file.write_text(code)
    given = {"kind": "python", "function": f"{file}:f", "best": None, "timeout_s": 5.0, "retries": 0}
    return given | {"on_error": "stop", "error_value": 0.0} | settings


def ask(scorer: SourceScorer, texts: Sequence[str]) -> Scores:
    rows = [row for row in ROWS for _ in range(len(texts) // 2)]
    return scorer.score_texts(ScoreRequest(rows, texts, None, 0, lambda: None, "step 3"), len(texts) // 2)


def test_the_score_is_the_weighted_sum_and_every_part_is_told() -> None:
    other = {"kind": "characters", "characters": "c"}
    with SourceScorer(weighted({"vowels": LETTERS, "c": other}, {"vowels": 2.0, "c": -0.5}), [], None) as judge:
        judged = ask(judge, ["ab", "cc", "ac", "xy"])
    assert judged.values == (2.0, -0.5, 2 * 0.5 - 0.5 * 0.5, 0.0)
    assert judged.parts == {"vowels": (1.0, 0.0, 0.5, 0.0), "c": (0.0, 1.0, 0.5, 0.0)}


def test_a_reward_of_one_has_no_parts() -> None:
    with SourceScorer(TypeAdapter(AnySource).validate_python(LETTERS), [], None) as judge:
        assert ask(judge, ["ab", "x"]).parts == {}


def test_a_prompt_that_one_part_leaves_out_is_left_out(tmp_path: Path) -> None:
    code = "def f(completions): return [None if text == 'b' else 1.0 for text in completions]"
    mine = function(tmp_path / "r.py", code, on_error="mask")
    with SourceScorer(weighted({"mine": mine, "letters": LETTERS}, {"mine": 1.0, "letters": 1.0}), [], None) as judge:
        judged = ask(judge, ["a", "b", "a", "x"])
    assert (judged.left_out, judged.values) == ({0}, (2.0, 1.0))
    assert judged.parts == {"mine": (1.0, 1.0), "letters": (1.0, 0.0)}
    assert judged.failures == 1
    assert judged.first_failure == "r.py:f gave None for the completion 'b' (p.jsonl:1)"


def test_a_part_that_fails_names_itself_and_its_key(tmp_path: Path) -> None:
    mine = function(tmp_path / "r.py", "def f(completions): return [None for _ in completions]")
    with (
        SourceScorer(weighted({"tone": TONE, "mine": mine}, {"tone": 1.0, "mine": 1.0}), [], None) as judge,
        pytest.raises(UserError) as caught,
    ):
        ask(judge, ["a", "b"])
    assert caught.value.line() == (
        "r.py:f gave None for the completion 'a' (step 3, p.jsonl:1); "
        "fix: mend it, or leave such prompts out: reward.parts.mine.on_error=mask"
    )


@pytest.mark.parametrize(
    ("weights", "total"), [((1e300, 1.0), "1e+300"), ((1e308, 1e308), "inf"), ((-2e18, 0.0), "-2e+18")]
)
def test_a_sum_too_large_for_training_is_refused(weights: tuple[float, float], total: str) -> None:
    source = weighted({"a": LETTERS, "b": LETTERS}, {"a": weights[0], "b": weights[1]})
    with SourceScorer(source, [], None) as scorer, pytest.raises(UserError) as caught:
        ask(scorer, ["ab", "x"])
    assert caught.value.exit_code == 4
    assert caught.value.line() == (
        f"the weighted sum of a completion's scores is {total} (the limit is 1e+18) (step 3); fix: lower reward.weights"
    )


def test_the_process_of_one_part_is_ended_where_another_cannot_begin(tmp_path: Path) -> None:
    alive = function(tmp_path / "r.py", "import os\nprint(os.getpid())\ndef f(completions): pass")
    broken = function(tmp_path / "broken.py", "1 / 0")
    judge = SourceScorer(weighted({"a": alive, "b": broken}, {"a": 1.0, "b": 1.0}), [], tmp_path / "log")
    with pytest.raises(UserError, match=r"broken.py:f cannot be imported.*reward.parts.b.function"), judge:
        pass
    process = int((tmp_path / "log").read_text().split()[0])
    assert not Path(f"/proc/{process}").exists()


@pytest.mark.parametrize(
    ("weights", "highest"), [((1.0, 2.0), 3.0), ((0.5, 0.0), 0.5), ((1.0, -1.0), math.inf), ((0.0, 0.0), 0.0)]
)
def test_the_highest_score_adds_up(weights: tuple[float, float], highest: float) -> None:
    assert weighted({"a": TONE, "b": LETTERS}, {"a": weights[0], "b": weights[1]}).highest == highest


def test_a_weight_of_zero_takes_what_nobody_knows_out(tmp_path: Path) -> None:
    mine = function(tmp_path / "r.py", "def f(completions): pass")
    assert weighted({"a": TONE, "b": mine}, {"a": 1.0, "b": 0.0}).highest == 1.0
    assert weighted({"a": TONE, "b": mine}, {"a": 1.0, "b": 0.1}).highest == math.inf


@pytest.mark.parametrize(
    ("parts", "weights", "said"),
    [
        ({}, {}, "has no parts"),
        ({"a": TONE}, {}, "has no weight for a: add +reward.weights.a=1.0"),
        ({"a": TONE}, {"a": 1.0, "b": 1.0}, "has a weight for b"),
        ({"a b": TONE}, {"a b": 1.0}, "match pattern"),
        ({"mean": TONE}, {"mean": 1.0}, "has a reward/mean already"),
        ({"a": {"kind": "weighted", "parts": {}, "weights": {}}}, {"a": 1.0}, "tag"),
        ({"a": TONE}, {"a": math.inf}, "finite"),
    ],
)
def test_parts_and_weights_fit(parts: dict[str, Any], weights: dict[str, float], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        weighted(parts, weights)
    assert said in str(caught.value)
