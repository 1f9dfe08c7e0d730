"""The first difference between two executions of the same steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rlhf_cli.verify.divergence import Divergence, Stretch, compare_tensors, find_divergence, rows_of

METRICS = ({"step": 3, "loss": "0.5", "grad_norm": "2.0"}, {"step": 4, "loss": "0.25", "grad_norm": "1.0"})
SAMPLES = tuple(
    {"step": step, "prompt": "p", "completion": text, "score": "1.0", "kl": "0.1", "truncated": False}
    for step in (3, 4)
    for text in ("a", "b")
)
EVALUATIONS = ({"step": 4, "reward": [["1.0"]], "kl": [["0.5"]], "texts": [["x"]]},)


def checkpoint(folder: Path, step: int = 4, timings: int = 7, moment: float = 0.5, weight: float = 1.0) -> Path:
    folder.mkdir()
    save_file({"lora_A": torch.tensor([weight, 2.0])}, folder / "adapter_model.safetensors")
    save_file({"lora_A|step": torch.tensor(4.0), "lora_A|exp_avg": torch.tensor([moment, 1.0])},
              folder / "optimizer.safetensors")  # fmt: skip
    logs = {"metrics": {"size": 9, "sha256": "x"}, "timings": {"size": timings, "sha256": str(timings)}}
    (folder / "state.json").write_text(json.dumps({"step": step, "control": None, "logs": logs}))
    return folder


@pytest.fixture
def was(tmp_path: Path) -> Stretch:
    return Stretch(METRICS, SAMPLES, EVALUATIONS, checkpoint(tmp_path / "was"))


def changed(rows: tuple[Mapping[str, Any], ...], number: int, **values: Any) -> tuple[Mapping[str, Any], ...]:
    return tuple(row | values if i == number else row for i, row in enumerate(rows))


def test_the_same_is_the_same_whatever_time_it_took(was: Stretch, tmp_path: Path) -> None:
    assert find_divergence(was, replace(was, checkpoint=checkpoint(tmp_path / "now", timings=8))) is None


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"samples": changed(SAMPLES, 3, completion="c")}, (4, "completions", "completion 2: completion was b, is c")),
        ({"samples": changed(SAMPLES, 0, prompt="q")}, (3, "completions", "completion 1: prompt was p, is q")),
        ({"samples": SAMPLES[:3]}, (4, "completions", "there were 2 completions, there are 1")),
        ({"samples": changed(SAMPLES, 1, score="2.0")}, (3, "scores", "completion 2: score was 1.0, is 2.0")),
        ({"metrics": changed(METRICS, 1, loss="0.250001")}, (4, "metrics", "loss was 0.25, is 0.250001")),
        ({"metrics": METRICS[:1]}, (4, "metrics", "there were 1 lines, there are 0")),
        ({"samples": changed(SAMPLES, 1, kl="0.2")}, (3, "metrics", "completion 2: kl was 0.1, is 0.2")),
        ({"evaluations": changed(EVALUATIONS, 0, kl=[["0.4"]])},
         (4, "evaluation", 'kl was [["0.5"]], is [["0.4"]]')),
        ({"evaluations": ()}, (4, "evaluation", "there were 1 evaluations, there are 0")),
    ],
)  # fmt: skip
def test_what_differs_is_named_with_both_values(
    change: dict[str, Any], found: tuple[int, str, str], was: Stretch
) -> None:
    assert find_divergence(was, replace(was, **change)) == Divergence(*found)


def test_the_earlier_step_comes_first_and_within_it_the_cause(was: Stretch) -> None:
    everything = replace(
        was,
        samples=changed(changed(SAMPLES, 2, completion="c", score="2.0"), 3, score="2.0"),
        metrics=changed(METRICS, 1, loss="9.0", lr="0.1", grad_norm="9.0"),
        evaluations=changed(EVALUATIONS, 0, kl=[["0.4"]], texts=[["y"]]),
    )
    assert find_divergence(was, everything) == Divergence(4, "completions", "completion 1: completion was a, is c")
    scored = replace(everything, samples=changed(SAMPLES, 3, score="2.0"))
    assert find_divergence(was, scored) == Divergence(4, "scores", "completion 2: score was 1.0, is 2.0")
    measured = replace(everything, samples=SAMPLES)
    assert find_divergence(was, measured) == Divergence(4, "metrics", "lr was null, is 0.1")
    evaluated = replace(measured, metrics=METRICS)
    assert find_divergence(was, evaluated) == Divergence(4, "evaluation", 'texts was [["x"]], is [["y"]]')
    earlier = replace(everything, metrics=changed(METRICS, 0, grad_norm="2.5"))
    assert find_divergence(was, earlier) == Divergence(3, "metrics", "grad_norm was 2.0, is 2.5")


@pytest.mark.parametrize(
    ("change", "quantity", "what"),
    [
        ({"weight": 1.5, "moment": 0.0, "step": 9}, "weights", "lora_A differs in 1 of 2 numbers, by up to 0.5"),
        ({"moment": 0.0, "step": 9}, "optimizer", "lora_A|exp_avg differs in 1 of 2 numbers, by up to 0.5"),
        ({"step": 9}, "state", "step was 4, is 9"),
    ],
)
def test_then_weights_then_moments_then_the_state(
    change: dict[str, Any], quantity: str, what: str, was: Stretch, tmp_path: Path
) -> None:
    now = replace(was, checkpoint=checkpoint(tmp_path / "now", **change))
    assert find_divergence(was, now) == Divergence(4, quantity, what)


def test_a_value_head_belongs_to_the_weights(was: Stretch, tmp_path: Path) -> None:
    now = checkpoint(tmp_path / "now", moment=0.0)
    save_file({"bias": torch.zeros(1)}, now / "value_head.safetensors")
    assert find_divergence(was, replace(was, checkpoint=now)) == Divergence(4, "weights", "bias is new")


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (torch.tensor(0.0), torch.tensor(-0.0), "w differs in 1 of 1 numbers, by up to 0"),  # bits, not values
        (torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 2.5, 3.5]]), "w differs in 2 of 3 numbers, by up to 0.5"),
        (torch.tensor([torch.nan]), torch.tensor([torch.nan]), None),
        (torch.zeros(2), torch.zeros(3), "w was float32 (2,), is float32 (3,)"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64), "w was float32 (2,), is float64 (2,)"),
    ],
)
def test_tensors_are_compared_bit_for_bit(was: Tensor, now: Tensor, said: str | None) -> None:
    assert compare_tensors({"w": was}, {"w": now}) == said


def test_a_tensor_may_be_gone() -> None:
    assert compare_tensors({"w": torch.zeros(1)}, {}) == "w is gone"


def test_numbers_keep_their_digits() -> None:
    assert rows_of(b'{"a": 0.10, "b": 1}\n{"a": 1e-3}\n') == [{"a": "0.10", "b": 1}, {"a": "1e-3"}]


def test_a_long_value_is_cut(was: Stretch) -> None:
    now = replace(was, samples=changed(SAMPLES, 0, completion="x" * 99))
    found = find_divergence(was, now)
    assert found is not None
    assert found.what == f"completion 1: completion was a, is {'x' * 60}..."
    short = find_divergence(was, replace(was, samples=changed(SAMPLES, 0, completion="ö" * 60)))
    assert short is not None
    assert short.what == f"completion 1: completion was a, is {'ö' * 60}"
    listed = find_divergence(was, replace(was, evaluations=changed(EVALUATIONS, 0, texts=[["ö"]])))
    assert listed is not None
    assert listed.what == 'texts was [["x"]], is [["ö"]]'
