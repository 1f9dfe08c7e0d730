"""Stopped and continued; what may change then, and what is refused. Exactness is shown in tests/reliability."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlhf_cli.errors import EXIT_RESUME
from rlhf_cli.models import memory
from rlhf_cli.models.tiny import build_tiny
from tests.support import QUICK, Outcome, contents, lines
from tests.unit.support import tiny

Rlhf = Callable[..., Outcome]


def test_a_finished_run_goes_on_with_more_steps(rlhf: Rlhf, tmp_path: Path) -> None:
    constant = ("optimizer.schedule=constant", "evaluate.every=0")
    assert rlhf("train", *QUICK, *constant, "run_dir=short", "steps=2").code == 0
    assert rlhf("train", *QUICK, *constant, "run_dir=long", "steps=4").code == 0
    assert rlhf("train", "resume=short", "steps=4").code == 0
    assert contents(tmp_path / "short") == contents(tmp_path / "long")
    assert json.loads((tmp_path / "short" / "config.json").read_text())["steps"] == 4


def test_the_command_that_may_follow_has_the_settings_in_force(rlhf: Rlhf, tmp_path: Path) -> None:
    """It had those that the run began with."""
    (tmp_path / "mine.py").write_text("def f(completions): return [len(text) / 9 for text in completions]\n")
    begun = rlhf("train", *QUICK, "run_dir=out", "steps=2", "optimizer.lr=0.02", "display=plain")
    assert begun.code == 0, begun.err
    more = "steps=3", "optimizer.lr=0.03", "reward=python", "reward.function=mine.py:f"
    resumed = rlhf("train", "resume=out", *more, "resume_allow=[optimizer.lr,reward]", "display=plain")
    assert resumed.code == 0, resumed.err
    before = " ".join(word for word in QUICK if not word.startswith(("steps=", "display=")))
    now = f"optimizer.lr=0.03 reward=python reward.function={tmp_path}/mine.py:f"
    assert f"  rlhf train {before} steps=3 {now} -m beta=0.005,0.01,0.02\n" in resumed.out
    again = rlhf("train", "resume=out", "steps=4", "display=plain")
    assert again.code == 0, again.err
    assert f"  rlhf train {before} {now} steps=4 -m beta=0.005,0.01,0.02\n" in again.out
    assert rlhf("verify-resume", "out").code == 0


def test_auto_starts_then_continues(rlhf: Rlhf, tmp_path: Path) -> None:
    assert rlhf("train", *QUICK, "resume=auto", "run_dir=out", "steps=2").code == 0
    outcome = rlhf("train", *QUICK, "resume=auto", "run_dir=out", "steps=4")
    assert outcome.code == 0, outcome.err
    assert "resumed from step 2" in outcome.err
    assert lines(tmp_path / "out" / "metrics.jsonl")[-1]["step"] == 4
    outcome = rlhf("train", *QUICK, "resume=auto", "run_dir=out", "steps=4", "beta=0.5")
    assert outcome.code == 5
    assert "beta.value: 0.01 -> 0.5" in outcome.err


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("resume=out", "beta=0.5"), 5, "beta.value: 0.01 -> 0.5"),
        (("resume=out", "seed=1", "optimizer.lr=0.1"), 5, "optimizer.lr: 0.01 -> 0.1; seed: 0 -> 1"),
        (("resume=out", "stpes=9"), 2, "did you mean steps?"),
        (
            ("resume=out", "steps=5"),
            2,
            "step 6 is done already (steps=5); fix: steps=12, or name",
        ),
        (("resume=out/checkpoints/step-00000005",), 5, "no checkpoint of step 5; there are: 0, 2, 4, 6"),
        (("resume=out", "-m", "beta=0.1,0.2"), 2, "resume= continues one run"),
        (("config=tiny", "resume=auto"), 2, "resume=auto needs a folder"),
        (("config=tiny", "++resume=out"), 2, "a run is continued from the command line alone"),
        (("resume=out", "run_dir=elsewhere"), 2, "a run goes on in its own folder"),
    ],
)
def test_what_cannot_be_resumed_is_refused_and_nothing_changes(
    argv: tuple[str, ...], code: int, said: str, rlhf: Rlhf, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    before = sorted(path for path in tmp_path.rglob("*"))
    outcome = rlhf("train", *argv)
    assert outcome.code == code, outcome.err
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_going_back_to_an_older_checkpoint_leaves_the_newer_ones_behind(
    rlhf: Rlhf, finished: Path, tmp_path: Path
) -> None:
    before = contents(shutil.copytree(finished, tmp_path / "out"))
    outcome = rlhf("train", "resume=out/checkpoints/step-00000002", "beta=0.5", "resume_allow=[beta]")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "out"
    assert contents(folder) != before
    assert lines(folder / "metrics.jsonl")[-1]["beta"] == 0.5
    weights = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    assert weights == (folder / "checkpoints" / "step-00000006" / "adapter_model.safetensors").read_bytes()
    assert weights != before["adapter/adapter_model.safetensors"]


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda adapter: (adapter / "adapter_model.safetensors").unlink()])
def test_a_finished_run_without_its_adapter_exports_it_again(
    damage: Callable[[Path], None], rlhf: Rlhf, finished: Path, tmp_path: Path
) -> None:
    before = contents(shutil.copytree(finished, tmp_path / "out"))
    damage(tmp_path / "out" / "adapter")
    assert rlhf("train", "resume=out").code == 0
    assert contents(tmp_path / "out") == before


def test_new_schedules_are_announced(rlhf: Rlhf) -> None:
    assert rlhf("train", *QUICK, "run_dir=out", "steps=2", "evaluate.every=0").code == 0
    assert "the schedules depend on steps, which changed" in rlhf("train", "resume=out", "steps=3").err


def test_only_the_untouched_policy_counts_as_the_reference(rlhf: Rlhf, tmp_path: Path) -> None:
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"Say {n}."}) + "\n" for n in range(30)))
    given = ("data=jsonl", f"data.path={data}", f"data.eval_path={data}")
    assert rlhf("train", *QUICK, *given, "run_dir=out", "steps=2", "evaluate.every=0").code == 0
    assert rlhf("train", "resume=out", "steps=4", "evaluate.every=1").code == 0
    assert json.loads((tmp_path / "out" / "result.json").read_text())["comparison"] is None


def test_a_folder_whose_name_ends_in_a_quote_is_resumed(rlhf: Rlhf, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "step-00000001'")
    for target in ("step-00000001'", f'"{tmp_path}/step-00000001\'"'):
        outcome = rlhf("train", f"resume={target}")
        assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("own", ["bfloat16", "float32"])
def test_a_run_keeps_its_dtype_on_a_machine_that_would_choose_another(
    own: str, rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = build_tiny(tiny())
    model.to(torch.bfloat16).save_pretrained("model")
    tokenizer.save_pretrained("model")
    quick = [setting for setting in QUICK if not setting.startswith("model.")]
    settings = (*quick, "model=pretrained", "model.path=model", "steps=4", "evaluate.every=0")

    def on_a_machine(*, with_bfloat16: bool, arguments: tuple[str, ...]) -> Outcome:
        monkeypatch.setattr(memory, "multiplies_bfloat16", lambda: with_bfloat16)
        outcome = rlhf("train", *arguments)
        assert outcome.code == 0, outcome.err
        return outcome

    has = own == "bfloat16"
    whole = on_a_machine(with_bfloat16=has, arguments=(*settings, "run_dir=whole"))
    assert ("bfloat16 weights, which are quick on this CPU" in whole.err) is has
    on_a_machine(with_bfloat16=has, arguments=(*settings, "steps=2", "run_dir=part"))
    on_a_machine(with_bfloat16=not has, arguments=("resume=part", "steps=4"))
    for file in (tmp_path / folder / name for folder in ("whole", "part") for name in ("run.json", "config.json")):
        assert json.loads(file.read_text())["dtype"] == own
    for name in ("adapter/adapter_model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    again = on_a_machine(with_bfloat16=not has, arguments=(*settings, "run_dir=part", "resume=auto"))
    assert "would not be the same" not in again.err
    on_a_machine(with_bfloat16=not has, arguments=("resume=part", "dtype=auto", "steps=5"))
    refused = rlhf("train", "resume=part", "dtype=" + ("float32" if has else "bfloat16"), "steps=6")
    assert refused.code == EXIT_RESUME
    assert f"dtype: {own} -> " in refused.err
