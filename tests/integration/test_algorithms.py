"""Algorithms, controllers and the comparison of sampler and trainer, in real runs of the tiny model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.pipeline import assemble
from rlhf_cli.runs.binding import read_record, write_record
from rlhf_cli.schedules import Controlled
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import Rollout
from tests.support import QUICK, Outcome, contents, lines

Rlhf = Callable[..., Outcome]

PPO = ("algorithm=ppo", "algorithm.epochs=2", "algorithm.minibatch_size=3")


def metrics_of(rlhf: Rlhf, folder: Path, *choice: str, name: str = "out") -> list[dict[str, Any]]:
    """The steps of a quick run, which is neither evaluated nor saved before its end."""
    outcome = rlhf("train", *QUICK, "evaluate.every=0", "checkpoint.every=99", *choice, f"run_dir={name}")
    assert outcome.code == 0, outcome.err
    return [row for row in lines(folder / name / "metrics.jsonl") if row["step"]]


def test_ppo_says_what_it_clips_and_what_its_values_explain(rlhf: Rlhf, tmp_path: Path) -> None:
    steps = metrics_of(rlhf, tmp_path, *PPO, "optimizer.lr=0.05")
    assert steps[-1]["policy/clip_fraction"] > 0
    assert steps[0]["value/mean"] == 0.0  # the head begins at zero
    assert steps[-1]["value/mean"] != 0.0
    assert steps[-1]["value/explained_variance"] < 1


def test_the_exact_kl_is_measured_every_so_many_steps_and_at_the_last(rlhf: Rlhf, tmp_path: Path) -> None:
    steps = metrics_of(rlhf, tmp_path, "exact_kl_every=4")
    assert [row["step"] for row in steps if "kl/seq" in row] == [4, 6]
    assert all("kl/seq_k1" in row for row in steps)
    plain = next(row for row in steps if row["step"] == 5)
    assert plain["objective"] == pytest.approx(plain["reward/mean"] - 0.01 * plain["kl/seq_k1"])


def test_measuring_the_kl_less_often_changes_nothing_else(rlhf: Rlhf, finished: Path, tmp_path: Path) -> None:
    assert rlhf("train", *QUICK, "exact_kl_every=3", "run_dir=seldom").code == 0
    name = "adapter/adapter_model.safetensors"
    assert contents(tmp_path / "seldom")[name] == contents(finished)[name]


ROUNDS = "model.engine=transformers"
"""Its sampler and trainer add up in different orders; the native ones may agree in every bit, as if not compared."""


def test_the_first_step_compares_sampler_and_trainer_and_the_others_need_not(rlhf: Rlhf, tmp_path: Path) -> None:
    steps = metrics_of(rlhf, tmp_path, ROUNDS)
    assert all(row["sampler/gap"] < 1e-3 for row in steps)
    assert [row["step"] for row in steps if "sampler/effective_share" in row] == [1]


def test_the_trainer_knows_what_a_truncated_sampler_chose_from(rlhf: Rlhf, tmp_path: Path) -> None:
    steps = metrics_of(rlhf, tmp_path, "top_p=0.7", "top_k=40", "min_p=0.01")
    assert all(row["sampler/gap"] < 1e-3 for row in steps)
    assert steps[0]["kl/seq"] > 1  # the reference is whole: cutting the policy off moves it away from it


def distort(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """A sampler that reports other probabilities than the trainer would, by `scale` nats a completion."""
    honest = NativeEngine.sample

    def sample(self: NativeEngine, *arguments: Any, **more: Any) -> Rollout:
        rollout = honest(self, *arguments, **more)
        off = torch.linspace(-scale, scale, len(rollout.batch))[:, None] * rollout.completion_mask
        return replace(rollout, logprobs=rollout.logprobs + off / rollout.lengths[:, None])

    monkeypatch.setattr(NativeEngine, "sample", sample)


def test_a_sampler_that_drifts_is_read_again_at_every_step(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distort(monkeypatch, 0.3)
    steps = metrics_of(rlhf, tmp_path)
    assert [row["step"] for row in steps if "sampler/effective_share" in row] == [1, 2, 3, 4, 5, 6]
    assert all(row["sampler/gap"] == pytest.approx(0.3, abs=1e-3) for row in steps)
    assert all(0.8 < row["sampler/effective_share"] < 1 for row in steps)
    assert "disagree" not in rlhf("train", "resume=out", "steps=7").err


@pytest.mark.parametrize("choice", [(), PPO, ("kl=exact", "shards=2")], ids=["rloo", "ppo", "exact, shards"])
def test_reusing_the_rollouts_forward_pass_changes_rounding_alone(
    choice: tuple[str, ...], rlhf: Rlhf, tmp_path: Path
) -> None:
    asked = ("steps=3", "microbatch_size=3", "optimizer.lr=0.01", *choice)
    plain, reused = (
        metrics_of(rlhf, tmp_path, *asked, f"reuse_forward={value}", name=value) for value in ("false", "true")
    )
    for one, other in zip(plain, reused, strict=True):
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3, abs=1e-4)
        assert other["sampler/gap"] < 1e-3


def test_one_completion_a_step_shows_that_a_sampler_begins_to_drift(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rlhf("train", *QUICK, "run_dir=out", "steps=2").code == 0
    distort(monkeypatch, 0.3)
    assert rlhf("train", "resume=out", "steps=5").code == 0
    steps = lines(tmp_path / "out" / "metrics.jsonl")[1:]
    assert [row["step"] for row in steps if "sampler/effective_share" in row] == [1, 4, 5]
    # step 3 reads its third completion again: -0.3 + 2 * 0.6 / 7
    assert [row["sampler/gap"] for row in steps[2:]] == pytest.approx([0.9 / 7, 0.3, 0.3], abs=1e-3)


def test_a_forward_pass_is_reused_by_the_native_engine_alone(rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf("train", *QUICK, "reuse_forward=true", "model.engine=transformers", "run_dir=out")
    assert outcome.code == 2
    assert outcome.err.rstrip().endswith("(reuse_forward); fix: reuse_forward=false")
    for number, choice in enumerate(("model.engine=transformers", "model.gradient_checkpointing=true", "seed=0")):
        metrics_of(rlhf, tmp_path, "steps=1", "evaluate.every=0", choice, name=str(number))
        saved = json.loads((tmp_path / str(number) / "config.json").read_text())
        assert saved["reuse_forward"] is (choice == "seed=0")


def test_a_forward_pass_is_reused_where_the_memory_holds_it(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "total_memory", lambda device: 2**19)
    monkeypatch.setattr(assemble, "HOPELESS", 2**20)
    outcome = rlhf("train", *QUICK, "steps=1", "evaluate.every=0", "run_dir=out")
    assert (
        "GiB of memory, and there are 0.0: take dtype=bfloat16 or a smaller model, or lower max_new_tokens"
        in outcome.err
    )
    assert json.loads((tmp_path / "out" / "config.json").read_text())["reuse_forward"] is False
    assert rlhf("train", "resume=out", "steps=2", "reuse_forward=auto").code == 0  # as it was decided


@pytest.mark.parametrize("key", ["samples_per_prompt", "evaluate.samples"])
def test_a_step_that_no_memory_holds_is_refused_before_anything_is_written(
    key: str, rlhf: Rlhf, tmp_path: Path
) -> None:
    outcome = rlhf("train", *QUICK, f"{key}=1000000000", "run_dir=out")
    assert (outcome.code, (tmp_path / "out").exists()) == (2, False)
    assert re.search("^error: a step would need [0-9,.]+ GiB of memory, and there are ", outcome.err, re.MULTILINE)


@pytest.mark.parametrize("key", ["prompts_per_step", "evaluate.prompts"])
def test_more_prompts_than_there_are_are_refused_at_once(key: str, rlhf: Rlhf, tmp_path: Path) -> None:
    assert rlhf("train", *QUICK, f"{key}=1000000", "run_dir=out").code == 3
    assert not (tmp_path / "out").exists()


def test_a_sampler_that_drifts_far_is_named(rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distort(monkeypatch, 1.0)
    outcome = rlhf("train", *QUICK, "run_dir=out")
    assert outcome.code == 0
    assert "step 1: sampler and trainer disagree by up to 1 nats a completion: 7" in outcome.err


def test_a_sampler_that_drifts_too_far_stops_the_run(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distort(monkeypatch, 3.0)
    outcome = rlhf("train", *QUICK, "run_dir=out")
    assert outcome.code == 7
    assert "sampler and trainer disagree by up to 3 nats" in outcome.err
    assert outcome.err.rstrip().endswith("fix: dtype=float32; newest valid checkpoint: step 0")


@pytest.mark.parametrize("kind", ["target", "adaptive"])
def test_a_controller_hears_the_kl_of_every_step(kind: str, rlhf: Rlhf, tmp_path: Path) -> None:
    steps = metrics_of(rlhf, tmp_path, f"beta={kind}", "beta.target=0.5", "optimizer.lr=0.03")
    controller = RunConfig.model_validate_json((tmp_path / "out" / "config.json").read_text()).beta
    assert isinstance(controller, Controlled)
    control, betas = controller.begin(), []
    for row in steps:
        betas.append(control.beta)
        control = controller.observe(control, row["kl/seq"])
    assert [row["beta"] for row in steps] == pytest.approx(betas)
    assert len(set(betas)) == len(betas)


@pytest.mark.slow
@pytest.mark.parametrize(
    "beta",
    [
        ("beta=target", "beta.start=0.2"),
        ("beta=adaptive", "beta.start=0.06", "beta.horizon_steps=2"),
    ],
    ids=" ".join,
)
def test_a_controller_settles_on_its_target(beta: tuple[str, ...], rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf(
        "train", "config=tiny", *beta, "beta.target=4", "steps=100", "evaluate.every=0", "checkpoint.every=100",
        "optimizer.schedule=constant", "display=quiet", "run_dir=out",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    steps = lines(tmp_path / "out" / "metrics.jsonl")
    assert fmean(row["kl/seq"] for row in steps[-30:]) == pytest.approx(4, rel=0.1)
    assert steps[0]["beta"] == float(beta[1].partition("=")[2])


def test_on_other_ground_sampler_and_trainer_are_compared_again(rlhf: Rlhf, tmp_path: Path) -> None:
    assert rlhf("train", *QUICK, ROUNDS, "run_dir=out").code == 0
    was = read_record(tmp_path / "out")
    write_record(tmp_path / "out", was | {"packages": was["packages"] | {"torch": "2.10.0"}})
    outcome = rlhf("train", "resume=out/checkpoints/step-00000004", "steps=6")
    assert outcome.code == 0, outcome.err
    assert "note: packages changed" in outcome.err
    assert "but not bit for bit" in outcome.err
    steps = [row for row in lines(tmp_path / "out" / "metrics.jsonl") if row["step"]]
    assert [row["step"] for row in steps if "sampler/effective_share" in row] == [1, 5]
