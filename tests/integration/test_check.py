"""`rlhf check`: go or no-go, from one step that changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.pipeline import update
from rlhf_cli.types import PromptBatch, Rollout
from tests.support import Outcome, lines

Rlhf = Callable[..., Outcome]
SMALL = ("config=tiny", "model.layers=1", "prompts_per_step=4", "samples_per_prompt=4", "evaluate.every=0")


def test_a_run_that_can_learn_may_go(rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = rlhf("check", *SMALL)
    assert outcome.code == 0, outcome.err
    report = {line[:11].strip(): line[11:] for line in outcome.out.splitlines()}
    assert report["runs on"].startswith("cpu, float32, engine native, ")
    assert report["model"].startswith("tiny: ")
    assert "trainer" not in report["time"]  # of the first step alone
    assert report["stops at"] == "'<|end|>'"
    assert " s a step (rollout 0." in report["time"]
    assert report["look at"].endswith("were cut at max_new_tokens=12")
    assert outcome.out.endswith("\ngo\n")
    assert not any(tmp_path.iterdir())


def test_its_step_is_the_first_of_the_run(rlhf: Rlhf, tmp_path: Path) -> None:
    trial = json.loads(rlhf("check", *SMALL, "--json").out)
    run = tmp_path / "run"
    assert rlhf("train", *SMALL, "steps=1", f"run_dir={run}", "display=quiet").code == 0
    (first,) = lines(run / "metrics.jsonl")
    assert trial["gradient_norm"] == pytest.approx(first["grad_norm"], rel=1e-5)
    shared = [name for name in trial["metrics"] if name in first and name != "advantage/rms"]
    assert len(shared) > 10
    # as in later steps the log-probabilities are the sampler's; the first step has the trainer's
    expected = pytest.approx({name: first[name] for name in shared}, rel=1e-5, abs=1e-6)
    assert {name: trial["metrics"][name] for name in shared} == expected
    (sample, *_) = lines(run / "samples.jsonl")
    assert (trial["completion"], trial["score"]) == (sample["completion"], sample["score"])


def test_its_update_takes_the_pass_of_the_rollout_where_that_of_later_steps_does(
    rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch
) -> None:
    reuse, reused = NativeEngine.reuse, list[int]()
    monkeypatch.setattr(
        NativeEngine, "reuse", lambda self, rollout, rows: reused.append(len(rows)) or reuse(self, rollout, rows)
    )
    for settings, completions in (
        ((), 16),
        (("reuse_forward=false",), 0),
        (("algorithm=ppo", "algorithm.epochs=2"), 16),
        (("algorithm=ppo", "algorithm.epochs=2", "algorithm.minibatch_size=8"), 8),
    ):
        reused.clear()
        assert rlhf("check", *SMALL, *settings).code == 0
        assert sum(reused) == completions, settings


def test_it_takes_every_update_of_the_step(rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:
    apply, taken = update.apply, list[float]()

    def counted(parameters: Any, optimizer: Any, lr: float, max_grad_norm: float) -> dict[str, float]:
        taken.append(lr)
        return apply(parameters, optimizer, lr, max_grad_norm)

    monkeypatch.setattr(update, "apply", counted)
    assert rlhf("check", *SMALL, "algorithm=ppo", "algorithm.epochs=2", "algorithm.minibatch_size=8").code == 0
    assert len(taken) == 4


def test_each_process_does_its_part(rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:
    """This one writes one of the two shards; alone it writes both, and finds the same."""
    sample, written = NativeEngine.sample, list[int]()

    def counted(self: NativeEngine, batch: PromptBatch, *args: Any, **options: Any) -> Rollout:
        written.append(len(batch))
        return sample(self, batch, *args, **options)

    monkeypatch.setattr(NativeEngine, "sample", counted)
    trials = {}
    for processes in (1, 2):
        outcome = rlhf("check", *SMALL, "shards=2", "threads=1", f"processes={processes}", "--json")
        assert outcome.code == 0, outcome.err
        trials[processes] = json.loads(outcome.out)
    assert written.count(8) == 3  # the engine is tried with fewer
    for name in ("metrics", "gradient_norm", "completion"):
        assert trials[1][name] == trials[2][name]


def test_its_predictions_by_hand(rlhf: Rlhf) -> None:
    evaluate = ("steps=7", "evaluate.every=3", "evaluate.prompts=2", "evaluate.samples=3", "checkpoint.keep=2")
    trial = json.loads(rlhf("check", *SMALL, *evaluate, "--json").out)
    seconds = trial["seconds"]
    assert trial["step_s"] == pytest.approx(sum(seconds.values()))
    # 6 completions where a step has 16, at steps 0, 3, 6 and 7, and once more at the end
    evaluation = (seconds["rollout"] + seconds["reward"] + seconds["reference"]) * 6 / 16
    assert trial["total_s"] == pytest.approx(7 * trial["step_s"] + 5 * evaluation)
    # weights and two moments of four bytes, in two checkpoints, the best one and one that is being written
    assert trial["checkpoints_mib"] == pytest.approx(3 * 4 * trial["model"]["trained"] * 4 / 2**20)
    assert 10 < trial["measured_mib"] < 100_000


def test_the_memory_of_several_processes_is_named(rlhf: Rlhf) -> None:
    trial = json.loads(rlhf("check", *SMALL, "processes=3", "shards=3", "--json").out)
    total = f"{3 * trial['predicted_mib']:,} MiB"
    assert f"each of 3 processes holds the model: up to {total}, where they share a machine" in trial["doubts"]


def test_dynamic_sampling_is_tried_as_a_step_draws_it(rlhf: Rlhf) -> None:
    few = ("prompts=dynamic", "samples_per_prompt=2", "reward.clip=[0,0.01]", "max_rollouts=3", "max_new_tokens=4")
    metrics = json.loads(rlhf("check", *SMALL, *few, "--json").out)["metrics"]
    assert metrics["drawn/rollouts"] == 3
    assert 0 < metrics["drawn/kept_prompts"] < metrics["drawn/prompts"]


@pytest.mark.parametrize("own", ["algorithm=rloo", "algorithm=ppo", "prompts=dynamic"])
def test_a_run_without_a_signal_may_not(own: str, rlhf: Rlhf) -> None:
    outcome = rlhf("check", *SMALL, own, "reward=regex", "reward.pattern=zzz")
    assert outcome.code == 4
    assert "no-go      nothing to learn from: every score is 0\n" in outcome.out
    assert not outcome.out.endswith("go\n") or "no-go" in outcome.out


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("steps=x",), 2, "error: steps: must be a whole number (got 'x')\n"),
        (("data=jsonl", "data.path=none.jsonl"), 3, "none.jsonl"),
        (("seeds=2",), 2, "error: several runs are a sweep and need -m (seeds)\n"),
    ],
)
def test_mistakes_are_one_line(argv: tuple[str, ...], code: int, said: str, rlhf: Rlhf) -> None:
    outcome = rlhf("check", "config=tiny", *argv)
    assert (outcome.code, outcome.out) == (code, "")
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_reward_without_a_score_is_a_mistake_too(rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "mute.py").write_text("def mute(prompts, completions):\n    return [None] * len(completions)\n")
    outcome = rlhf("check", *SMALL, "reward=python", f"reward.function={tmp_path}/mute.py:mute", "reward.on_error=mask")
    assert (outcome.code, outcome.out) == (4, "")
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: no prompt has a score for each of its completions; the first failure: ")
    assert "(reward); fix: mend the reward" in last


def test_torchrun_is_not_needed(rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    outcome = rlhf("check", *SMALL)
    assert (outcome.code, outcome.out) == (2, "")
    assert "rlhf check starts its processes itself; fix: rlhf check processes=N, without torchrun" in outcome.err
