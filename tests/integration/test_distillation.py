"""`reference=model`: a policy learns to write like another model; the oracle and a resume use that model too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.errors import EXIT_RESUME, EXIT_USAGE
from rlhf_cli.runs.reading import read_first_and_last
from tests.support import Outcome, contents

Rlhf = Callable[..., Outcome]

SHORT = (
    "config=tiny", "model.layers=1", "prompts_per_step=4", "max_new_tokens=6", "evaluate.samples=4", "display=quiet"
)  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: the policy of a short run, merged. Leave it as it is."""
    from rlhf_cli.cli import run

    folder = tmp_path_factory.mktemp("teacher")
    trained = f"run_dir={folder / 'run'}"
    assert run(["train", *SHORT, "steps=12", "beta=0.1", "evaluate.every=0", trained]) == 0
    assert run(["merge", str(folder / "run"), str(folder / "merged"), "--json"]) == 0
    return folder / "merged"


def distil(teacher: Path) -> tuple[str, ...]:
    return (*SHORT, "reward=none", "reference=model", f"reference.path={teacher}", "kl=exact", "beta=1")


def test_the_kl_to_the_teacher_falls_by_four_fifths_on_held_out_prompts(rlhf: Rlhf, teacher: Path) -> None:
    outcome = rlhf("train", *distil(teacher), "steps=24", "display=plain", "run_dir=out")
    assert outcome.code == 0, outcome.err
    first, last = read_first_and_last(Path("out"))
    assert first is not None
    assert last is not None
    assert last.means()[1] < 0.2 * first.means()[1]
    # J = -KL was not 0 before training: of all that it can gain, the policy has the share by which the KL fell
    share = 100 * (1 - last.means()[1] / first.means()[1])
    assert json.loads(Path("out/result.json").read_text())["optimum"]["bound"] == pytest.approx(share)
    assert "before" in outcome.out
    assert "learned nothing from the reward" not in outcome.out
    assert "alarm" not in outcome.err.replace("alarm at step 10: truncated", "")
    record = json.loads(Path("out/run.json").read_text())
    assert record["reference"]["loaded_from"] == str(teacher)
    asked = rlhf("eval", "out", "--json")
    told = json.loads(asked.out)
    assert {"J", "kl"} < {measure["name"] for measure in told["measures"]}
    assert (told["win_rate"], "reward" in json.dumps(told["measures"])) == (None, False)


def test_a_resumed_run_repeats_the_bytes_and_knows_its_reference(rlhf: Rlhf, teacher: Path) -> None:
    own = Path(shutil.copytree(teacher, "own"))
    settings = *distil(own), "checkpoint.every=2", "evaluate.every=2"
    assert rlhf("train", *settings, "steps=4", "run_dir=whole").code == 0
    assert rlhf("train", *settings, "steps=2", "run_dir=parts").code == 0
    assert rlhf("train", "resume=parts", "steps=4").code == 0
    assert contents(Path("parts")) == contents(Path("whole"))
    assert json.loads(Path("whole/config.json").read_text())["reuse_forward"] is True
    assert rlhf("fork", "whole@2", "reference=initial", "reward=characters", "run_dir=fork").code == 0
    assert json.loads(Path("fork/run.json").read_text())["reference"] == {}
    back = rlhf("fork", "fork@4", "reference=model", f"reference.path={own}", "steps=6", "run_dir=back")
    assert back.code == 0, back.err
    assert json.loads(Path("back/run.json").read_text())["reference"]["loaded_from"] == str(own.absolute())
    other = rlhf("train", *SHORT, "model.seed=3", "steps=1", "evaluate.every=0", "run_dir=seed")
    assert other.code == 0, other.err
    assert rlhf("merge", "seed", "strange").code == 0
    shutil.copyfile("strange/model.safetensors", "own/model.safetensors")
    outcome = rlhf("train", "resume=parts", "steps=6")
    assert outcome.code == EXIT_RESUME
    assert "the reference changed since the run began" in outcome.err


def test_a_fork_reads_the_teacher_by_the_arithmetic_that_the_run_began_with(rlhf: Rlhf, teacher: Path) -> None:
    """Neither engine is invariant from the beginning, as the policy's cannot be."""
    settings = *distil(teacher), "model.engine=transformers", "steps=2", "checkpoint.every=1", "checkpoint.keep=3"
    assert rlhf("train", *settings, "run_dir=whole").code == 0
    assert json.loads(Path("whole/config.json").read_text())["invariant"] is False
    for step in range(2):
        assert rlhf("fork", f"whole@{step}", f"run_dir={step}", "display=quiet").code == 0
        assert contents(Path(str(step))) == contents(Path("whole"))


def test_the_oracle_samples_the_reference_that_is_set(rlhf: Rlhf, teacher: Path) -> None:
    short = "max_new_tokens=4", "--samples", "4", "--json"
    by_reference = rlhf("oracle", *SHORT, "reference=model", f"reference.path={teacher}", *short)
    as_model = rlhf("oracle", SHORT[0], *SHORT[2:], "model=pretrained", f"model.path={teacher}", *short)
    initial = rlhf("oracle", *SHORT, *short)
    assert by_reference.code == as_model.code == 0, by_reference.err
    assert json.loads(by_reference.out) == json.loads(as_model.out) != json.loads(initial.out)


def test_two_runs_are_each_measured_from_their_own_reference(rlhf: Rlhf, teacher: Path) -> None:
    own = (), ("reference=model", f"reference.path={teacher}")
    for name, reference in zip("ab", own, strict=True):
        outcome = rlhf("train", *SHORT, "steps=1", "evaluate.every=1", *reference, f"run_dir={name}")
        assert outcome.code == 0, outcome.err
    alone = [json.loads(rlhf("eval", name, "--json").out)["measures"] for name in "ab"]
    both = json.loads(rlhf("eval", "a", "b", "--json").out)["measures"]
    kls = [[one["a"] for one in measures if one["name"] == "kl"] for measures in alone]
    assert [[one[side] for one in both if one["name"] == "kl"] for side in "ab"] == kls
    assert kls[0] != kls[1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("tokenizer", "policy and reference read other tokens: token"),
        ("missing", "is no folder (reference.path)"),
        ("run", "is a run, not a model (reference.path); fix: give its model, and reference.adapter="),
    ],
)
def test_a_reference_that_does_not_fit_is_refused_in_one_line(
    rlhf: Rlhf, teacher: Path, change: str, says: str
) -> None:
    path = teacher.parent / "run" if change == "run" else Path.cwd() / "other"
    if change == "tokenizer":
        shutil.copytree(teacher, path)
        file = path / "tokenizer.json"
        told = json.loads(file.read_text())
        vocabulary = told["model"]["vocab"]
        one, two = sorted(vocabulary)[:2]
        vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
        file.write_text(json.dumps(told))
    outcome = rlhf("train", *distil(path), "steps=2", "run_dir=out")
    assert outcome.code == EXIT_USAGE
    assert says in outcome.err
    assert len([line for line in outcome.err.splitlines() if line.startswith("error")]) == 1
    assert not Path("out/config.json").exists()
