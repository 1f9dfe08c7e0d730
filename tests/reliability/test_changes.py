"""A resumed run is the same run, or says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import QUICK, Outcome, lines

Rlhf = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        pytest.param("optimizer.lr=0.02", "optimizer.lr: 0.01 -> 0.02", marks=pytest.mark.case(25)),
        pytest.param("optimizer.schedule=cosine", "optimizer.schedule: linear -> cosine", marks=pytest.mark.case(25)),
        pytest.param("beta=0.5", "beta.value: 0.01 -> 0.5", marks=pytest.mark.case(26)),
        pytest.param("seed=1", "seed: 0 -> 1", marks=pytest.mark.case(26)),
        pytest.param("data=writing", "data.path: ", marks=pytest.mark.case(26)),
        pytest.param("model.lora.rank=4", "model.lora.rank: 8 -> 4", marks=pytest.mark.case(27)),
        pytest.param("model.lora.dropout=0.1", "model.lora.dropout: 0.0 -> 0.1", marks=pytest.mark.case(27)),
    ],
)
def test_what_changed_is_refused_with_the_difference(
    override: str, said: str, rlhf: Rlhf, copied: Callable[[], Path]
) -> None:
    run = copied()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = rlhf("train", "resume=out", "steps=8", override)
    assert outcome.code == 5
    assert outcome.err.startswith("error: the resumed run would not be the same: ")
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("override", "key", "metric", "value"),
    [
        pytest.param("optimizer.lr=0.02", "optimizer.lr", "lr", 0.005, marks=pytest.mark.case(25)),
        pytest.param("beta=0.5", "beta", "beta", 0.5, marks=pytest.mark.case(26)),
    ],
)
def test_what_is_allowed_is_obeyed(
    override: str, key: str, metric: str, value: float, rlhf: Rlhf, copied: Callable[[], Path]
) -> None:
    run = copied()
    outcome = rlhf("train", "resume=out", "steps=8", override, f"resume_allow=[{key}]")
    assert outcome.code == 0, outcome.err
    # the learning rate warms up over 4 of 8 steps and falls to zero after the last: the 8th has a quarter of 0.02
    assert lines(run / "metrics.jsonl")[-1][metric] == pytest.approx(value)


@pytest.mark.case(27)
def test_an_adapter_of_another_rank_is_one_line_even_where_it_is_allowed(
    rlhf: Rlhf, copied: Callable[[], Path]
) -> None:
    copied()
    outcome = rlhf("train", "resume=out", "steps=8", "model.lora.rank=4", "resume_allow=[model]")
    assert outcome.code == 5
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: the adapter does not fit the model: ")
    assert last.endswith("; newest valid checkpoint: step 6")


@pytest.mark.case(26)
def test_other_prompts_under_the_same_name_are_refused(rlhf: Rlhf, tmp_path: Path) -> None:
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"Say {n}."}) + "\n" for n in range(30)))
    assert rlhf("train", *QUICK, "data=jsonl", f"data.path={data}", "run_dir=out", "steps=2").code == 0
    data.write_text(data.read_text().replace("Say 7.", "Say seven."))
    outcome = rlhf("train", "resume=out", "steps=4")
    assert outcome.code == 5
    assert "the data changed since the run began" in outcome.err


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"data": {}, "model": 3, "reward": {}}'])
def test_a_run_that_does_not_say_what_it_began_with_is_not_continued(
    content: str | None, rlhf: Rlhf, copied: Callable[[], Path]
) -> None:
    record = copied() / "run.json"
    record.unlink() if content is None else record.write_text(content)
    outcome = rlhf("train", "resume=out", "steps=8")
    assert outcome.code == 5
    assert outcome.err.splitlines()[-1].startswith("error: run.json does not say what the run began with")
