"""`rlhf audit`: a run that nobody changed is clean; whatever is changed is found, where the hashes are forged too."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rlhf_cli.cli import run
from rlhf_cli.report import run_page
from rlhf_cli.runs.reading import read_run
from tests.scripts import load
from tests.support import Outcome, everything

Rlhf = Callable[..., Outcome]


@pytest.fixture(scope="module")
def tampering() -> ModuleType:
    return load("crashes/tampering.py")


@pytest.fixture(scope="module")
def finished(tampering: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint of each of its 8 steps; shared, so leave it as it is."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    assert run(["train", *tampering.RUN, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def test_a_run_is_clean_and_the_page_says_what_was_checked(rlhf: Rlhf, out: Path) -> None:
    before = everything(out)
    outcome = rlhf("audit", "out", "--stretches", "2", "--seed", "1")
    assert outcome.code == 0, outcome.err
    files, first, second, count, found = outcome.out.splitlines()
    assert files == "files: as the run wrote them, 9 checkpoints among them"
    # sorted(random.Random(1).sample(range(8), 2)) is [2, 4]
    assert first.startswith("identical: step 3, 1 metrics line, 4 completions, 0 evaluations, ")
    assert second.startswith("identical: step 5, 1 metrics line, 4 completions, 0 evaluations, ")
    assert count == "2 of 8 stretches were repeated, 2 of 8 steps, chosen by --seed 1"
    # a tenth of eight steps is one stretch of eight: two of eight meet it with a chance of 1/4
    assert found.endswith("with a chance of 25.0%; for 99 %: --stretches 8")
    assert {path: kept for path, kept in everything(out).items() if path.name != "audits.jsonl"} == before
    assert "as the run wrote it; all files, and steps 3 to 3, 5 to 5 repeated" in run_page.html(read_run(out))


def test_a_run_that_was_given_more_steps_is_clean(rlhf: Rlhf, out: Path) -> None:
    """Its schedules went by another number of steps at first, and it was evaluated where it ended then."""
    assert rlhf("train", "resume=out", "steps=10", "display=quiet").code == 0
    outcome = rlhf("audit", "out", "--all")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("identical: ") == 10
    assert "other settings" not in outcome.err


@pytest.mark.parametrize("verb", ["train", "sft"])
def test_a_run_that_ended_where_no_evaluation_was_due_is_clean(verb: str, rlhf: Rlhf, tampering: ModuleType) -> None:
    """It was evaluated after its last checkpoint; the same line once more is found."""
    settings = {"train": (*tampering.RUN, "stop.tokens=1"), "sft": ("config=tiny", "steps=3", "display=quiet")}[verb]
    assert rlhf(verb, *settings, "evaluate.every=2", "checkpoint.every=1", "checkpoint.keep=9", "run_dir=out").code == 0
    if verb == "sft":
        assert rlhf(verb, "resume=out/checkpoints/step-00000001", "steps=1").code == 0
    assert rlhf("audit", "out", "--stretches", "1").code == 0
    log = Path("out/evaluations.jsonl")
    log.write_bytes(log.read_bytes() + log.read_bytes().splitlines(keepends=True)[-1])
    outcome = rlhf("audit", "out", "--stretches", "1")
    assert outcome.code == 5
    assert "evaluations.jsonl goes on behind step-00000001, where the run ended" in outcome.err


def test_stretches_of_other_settings_than_the_number_of_steps_are_noted(rlhf: Rlhf, out: Path) -> None:
    assert rlhf("train", "resume=out", "steps=9", "checkpoint.keep=98", "display=quiet").code == 0
    outcome = rlhf("audit", "out", "--stretches", "9")
    assert outcome.code == 5
    assert "note: step-00000001 is of other settings than the present ones" in outcome.err


def test_a_bit_of_the_weights_is_found_where_all_hashes_are_forged(
    rlhf: Rlhf, out: Path, tampering: ModuleType
) -> None:
    tampering.flip_bit(out, random.Random(3), "adapter_model.safetensors")
    tampering.forge(out)
    outcome = rlhf("audit", "out", "--all")
    assert outcome.code == 5
    assert outcome.out.count("different: ") in (1, 2)  # the stretch that ends there, and the one that begins there
    assert ": weights: " in outcome.err
    assert "NOT as the run wrote it" in run_page.html(read_run(out))


def test_a_run_begins_at_its_settings(rlhf: Rlhf, out: Path, tampering: ModuleType) -> None:
    """A forged beginning is found although no checkpoint is older."""
    for checkpoint in sorted((out / "checkpoints").glob("step-*"))[:4]:
        shutil.rmtree(checkpoint)
    tampering.change_number(out, random.Random(0), "metrics")
    tampering.forge(out)
    outcome = rlhf("audit", "out", "--all", "--json")
    assert outcome.code == 5
    audit: dict[str, Any] = json.loads(outcome.out)
    assert (audit["clean"], audit["stretches"], audit["files"]) == (False, 5, {})
    assert [one["first"] for one in audit["repeated"]] == [1, 5, 6, 7, 8]


@pytest.mark.parametrize("file", ["samples.jsonl", "result.json", "adapter/adapter_model.safetensors", "config.json"])
def test_a_file_that_the_run_did_not_write_so_is_named(file: str, rlhf: Rlhf, out: Path) -> None:
    content = (out / file).read_bytes()
    (out / file).write_bytes(content.replace(b"0", b"1", 1) if file.endswith(("l", "n")) else content[:-1] + b"?")
    outcome = rlhf("audit", "out")
    assert outcome.code == 5
    assert Path(file).name in outcome.out
    assert outcome.err.splitlines()[-1].startswith("error: ")
    assert Path(file).name in outcome.err.splitlines()[-1]
    assert "steps 1 to 1" not in outcome.err  # no step is repeated then


def test_lines_behind_the_end_are_no_lines_of_the_run(rlhf: Rlhf, out: Path) -> None:
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9}\n')
    outcome = rlhf("audit", "out")
    assert outcome.code == 5
    assert "metrics.jsonl goes on behind step-00000008, where the run ended" in outcome.err


def test_a_broken_checkpoint_is_named(rlhf: Rlhf, out: Path) -> None:
    (out / "checkpoints" / "step-00000003" / "state.json").write_text("{}")
    outcome = rlhf("audit", "out")
    assert outcome.code == 5
    assert "step-00000003" in outcome.err


def test_a_checkpoint_of_another_run_is_named_by_its_place(rlhf: Rlhf, out: Path) -> None:
    file = out / "checkpoints" / "step-00000003" / "MANIFEST.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"bound": {"config.json": "0" * 64}}))
    outcome = rlhf("audit", "out")
    assert outcome.code == 5
    assert f"run.json and the checkpoint are not of one run ({file.parent})" in outcome.err


def test_without_a_checkpoint_there_is_nothing_to_repeat(rlhf: Rlhf, out: Path) -> None:
    shutil.rmtree(out / "checkpoints")
    outcome = rlhf("audit", "out")
    assert outcome.code == 5
    assert "no usable checkpoint" in outcome.err


def test_the_steps_of_a_fork_are_repeated(rlhf: Rlhf, out: Path) -> None:
    assert rlhf("fork", "out@6", "run_dir=fork", "display=quiet").code == 0
    outcome = rlhf("audit", "fork", "--all")
    assert outcome.code == 0, outcome.err
    assert "2 of 2 stretches were repeated, 2 of 8 steps" in outcome.out  # from step 6, its parent's


@pytest.mark.slow
def test_every_kind_of_tampering_is_found(tampering: ModuleType, tmp_path: Path) -> None:
    found = tampering.plant(tmp_path, 2 * len(tampering.KINDS), seed=0)
    assert len(found) == 2 * len(tampering.KINDS)
    assert all(all(tries) for tries in found.values())
