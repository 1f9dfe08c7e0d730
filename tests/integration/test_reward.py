"""`rlhf reward test`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Outcome, lines

Rlhf = Callable[..., Outcome]
FILE = ("reward", "test", "--completions", "c.jsonl")


@pytest.fixture
def completions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two prompts with two completions each, in mixed order."""
    monkeypatch.chdir(tmp_path)
    rows = [("p", "aaa", 1), ("q", "xy", 2), ("p", "a--", 1), ("q", "ab", 2)]
    lines = [json.dumps({"prompt": p, "completion": c, "level": level, "score": n}) for n, (p, c, level) in
             enumerate(rows)]  # fmt: skip
    (tmp_path / "c.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_completions_of_a_file(rlhf: Rlhf, completions: Path) -> None:
    outcome = rlhf(*FILE, "reward=characters", "reward.characters=ab", "--json")
    found = json.loads(outcome.out)
    assert outcome.code == 0, outcome.err
    assert found["verdict"] == "ok"
    assert found["scores"] == [[1.0, pytest.approx(1 / 3)], [0.0, 1.0]]
    assert [finding["check"] for finding in found["findings"]] == [
        "exceptions", "determinism", "batch", "range", "latency", "variance", "length",
    ]  # fmt: skip
    assert sorted(file.name for file in completions.iterdir()) == ["c.jsonl"]


def test_rows_are_counted_that_are_there(rlhf: Rlhf, completions: Path) -> None:
    outcome = rlhf(*FILE, "reward=characters", "data.where={level: 2}")
    assert outcome.out.startswith("reward=characters: 2 completions of 1 prompt")
    assert "note: data: 4 rows; 2 by data.where left out; 2 used\n" in outcome.err
    outcome = rlhf(*FILE, "reward=characters", "data.where={level: yes}")
    assert (outcome.code, outcome.out) == (3, "")
    assert outcome.err.startswith("error: data.where leaves none of 4 rows; they have level: 1 (2), level: 2 (2) (")


def test_a_table_for_eyes(rlhf: Rlhf, completions: Path) -> None:
    outcome = rlhf(*FILE, "reward=characters")
    assert outcome.code == 0
    assert outcome.out.startswith("reward=characters: 4 completions of 2 prompts")
    for words in ("determinism", "rank correlation", "Highest and lowest", "aaa"):
        assert words in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80


def test_columns_go_to_the_function_and_wrong_is_exit_4(rlhf: Rlhf, completions: Path) -> None:
    (completions / "r.py").write_text("def f(completions, level):\n    return [None if n > 1 else n for n in level]\n")
    outcome = rlhf(*FILE, "reward=python", "reward.function=r.py:f", "--json")
    assert outcome.code == 4
    assert json.loads(outcome.out)["scores"] == [[1.0, 1.0], [None, None]]


def test_strict_minds_what_is_worth_a_look(rlhf: Rlhf, completions: Path) -> None:
    (completions / "c.jsonl").write_text(json.dumps({"prompt": "p", "completion": "a"}))
    assert rlhf(*FILE, "reward=characters").code == 0
    assert rlhf(*FILE, "reward=characters", "--strict").code == 4


def test_completions_of_the_reference(rlhf: Rlhf) -> None:
    few = ("max_new_tokens=4", "--prompts", "3", "--samples", "2", "--json")
    outcome = rlhf("reward", "test", "config=tiny", *few)
    assert outcome.code == 0, outcome.err
    assert "held out" not in outcome.err  # nothing is trained, so nothing is held out
    found = json.loads(outcome.out)
    assert (found["prompts"], [len(scores) for scores in found["scores"]]) == (3, [2, 2, 2])
    assert json.loads(rlhf("reward", "test", "config=tiny", *few).out)["scores"] == found["scores"]


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("reward", "tset"), 2, "unknown verb 'reward tset'; fix: rlhf reward test ..."),
        (("reward",), 2, "no verb 'reward' alone; fix: rlhf reward test ... or rlhf reward train ..."),
        (("reward", "test", "--completions", "no.jsonl"), 2, "no such file: no.jsonl"),
        (("reward", "test", "--prompts", "0"), 2, "must be at least 1 (got 0)"),
        (("reward", "test", "rewards=sentiment"), 2, "did you mean reward?"),
        ((*FILE, "reward=python", "reward.function=no.py:f"), 2, "no such file: "),
        ((*FILE, "reward=math", "reward.column=answr"), 4, "takes answr, which the data does not have"),
    ],
)
def test_mistakes(rlhf: Rlhf, completions: Path, argv: tuple[str, ...], code: int, said: str) -> None:
    outcome = rlhf(*argv)
    assert outcome.code == code
    assert said in outcome.err
    assert len(outcome.err.strip().splitlines()) <= 2


@pytest.mark.parametrize(("name", "said"), [("g", "g is not there, only f"), ("f", "f takes no completions")])
def test_a_function_that_cannot_be_called_is_named_before_a_model_is_loaded(
    name: str, said: str, rlhf: Rlhf, completions: Path
) -> None:
    (completions / "r.py").write_text("def f(prompt):\n    return 1.0\n")
    outcome = rlhf("reward", "test", "config=tiny", "reward=python", f"reward.function=r.py:{name}")
    assert outcome.code == 4
    assert said in outcome.err
    assert "loading" not in outcome.err


def test_a_line_without_a_completion(rlhf: Rlhf, completions: Path) -> None:
    (completions / "c.jsonl").write_text('{"prompt": "p", "completion": "a"}\n{"prompt": "p"}\n')
    outcome = rlhf(*FILE, "reward=characters")
    assert (outcome.code, "no completion (c.jsonl:2)" in outcome.err) == (3, True)


def test_the_example_to_copy_trains(rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(Path(__file__).parents[2] / "docs/examples/own_reward", tmp_path / "mine")
    monkeypatch.chdir(folder)
    few = ("steps=1", "evaluate.every=0", "max_new_tokens=6", "display=quiet", "run_dir=out")
    outcome = rlhf("train", "config=./run.yaml", "model=tiny", *few)
    assert outcome.code == 0, outcome.err
    (row,) = lines(folder / "out" / "metrics.jsonl")
    assert {"reward/listed", "reward/short", "reward/raw"} <= row.keys()


@pytest.mark.parametrize("option", ["--prompts", "--samples"])
def test_a_file_of_completions_takes_no_number_of_its_own(option: str, rlhf: Rlhf, completions: Path) -> None:
    outcome = rlhf(*FILE, "reward=characters", option, "5")
    assert (outcome.code, outcome.out) == (2, "")
    line = "error: a file has its own prompts and completions (--completions); fix: leave --prompts and --samples out\n"
    assert outcome.err == line
