"""Whatever happens to a checkpoint's files is noticed, named, and passed over for an older checkpoint."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.models.files import ADAPTER_WEIGHTS
from rlhf_cli.pipeline.state import OPTIMIZER, STATE
from rlhf_cli.runs.checkpoint import find_newest, why_invalid
from tests.support import Outcome, contents

Rlhf = Callable[..., Outcome]
Spoil = Callable[[Path], object]
NEWEST, OLDER = "step-00000006", "step-00000004"


def truncated(name: str, size: int) -> Spoil:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def missing(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def of_the_older(name: str) -> Spoil:
    return lambda folder: shutil.copyfile(folder.with_name(OLDER) / name, folder / name)


ADAPTER = (truncated(ADAPTER_WEIGHTS, 1000), f"{ADAPTER_WEIGHTS}: 1000 bytes")
MOMENTS = (of_the_older(OPTIMIZER), f"{OPTIMIZER}: sha256 mismatch")
LIST = (missing("MANIFEST.json"), "MANIFEST.json: missing")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(*ADAPTER, marks=pytest.mark.case(18)),
        pytest.param(missing(OPTIMIZER), f"{OPTIMIZER}: missing", marks=pytest.mark.case(19)),
        pytest.param(missing(STATE), f"{STATE}: missing", marks=pytest.mark.case(20)),
        pytest.param(*MOMENTS, marks=pytest.mark.case(23)),
        pytest.param(truncated(STATE, 0), f"{STATE}: 0 bytes", marks=pytest.mark.case(24)),
        pytest.param(truncated(OPTIMIZER, 77), f"{OPTIMIZER}: 77 bytes", marks=pytest.mark.case(24)),
        pytest.param(truncated("MANIFEST.json", 0), "MANIFEST.json: not readable", marks=pytest.mark.case(24)),
        pytest.param(truncated("MANIFEST.json", 200), "MANIFEST.json: not readable", marks=pytest.mark.case(24)),
        pytest.param(truncated("adapter_config.json", 9), "adapter_config.json: 9 bytes", marks=pytest.mark.case(24)),
        pytest.param(*LIST, marks=pytest.mark.case(24)),
    ],
)
def test_named_and_passed_over(spoil: Spoil, reason: str, copied: Callable[[], Path]) -> None:
    folder = copied() / "checkpoints"
    spoil(folder / NEWEST)
    found = find_newest(folder)
    assert found.folder == folder / OLDER
    ((skipped, why),) = found.skipped
    assert (skipped, why[: len(reason)]) == (folder / NEWEST, reason)


@pytest.mark.parametrize(("spoil", "reason"), [ADAPTER, MOMENTS, LIST])
def test_a_resume_says_so_and_writes_it_again(
    spoil: Spoil, reason: str, rlhf: Rlhf, finished: Path, copied: Callable[[], Path]
) -> None:
    run = copied()
    spoil(run / "checkpoints" / NEWEST)
    outcome = rlhf("train", "resume=out")
    assert outcome.code == 0, outcome.err
    assert f"resumed from step 4 (skipped {NEWEST}: {reason}" in outcome.err
    assert contents(run) == contents(finished)
    assert why_invalid(run / "checkpoints" / NEWEST) is None


@pytest.mark.parametrize("case", [pytest.param(n, marks=pytest.mark.case(n)) for n in (18, 19, 20, 24)])
def test_with_no_older_one_it_ends_and_touches_nothing(
    case: int, rlhf: Rlhf, copied: Callable[[], Path], tmp_path: Path
) -> None:
    run = copied()
    spoils = {18: truncated(ADAPTER_WEIGHTS, 9), 19: missing(OPTIMIZER), 20: missing(STATE), 24: truncated(STATE, 3)}
    for folder in (run / "checkpoints").glob("step-*"):
        spoils[case](folder)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = rlhf("train", "resume=out")
    assert outcome.code == 5
    assert outcome.err.startswith("error: no usable checkpoint: step-00000006: ")
    assert outcome.err.count("\n") == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "name",
    [pytest.param(ADAPTER_WEIGHTS, marks=pytest.mark.case(21)), pytest.param(OPTIMIZER, marks=pytest.mark.case(22))],
)
def test_any_flipped_bit_is_noticed(name: str, copied: Callable[[], Path]) -> None:
    folder = copied() / "checkpoints" / NEWEST
    content, draw = (folder / name).read_bytes(), random.Random(0)
    assert why_invalid(folder) is None
    for _ in range(200):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (folder / name).write_bytes(flipped)
        assert why_invalid(folder) == f"{name}: sha256 mismatch"


@pytest.mark.parametrize(
    "name",
    [pytest.param(ADAPTER_WEIGHTS, marks=pytest.mark.case(21)), pytest.param(OPTIMIZER, marks=pytest.mark.case(22))],
)
def test_a_flipped_bit_never_reaches_a_run(name: str, rlhf: Rlhf, finished: Path, copied: Callable[[], Path]) -> None:
    run = copied()
    file = run / "checkpoints" / NEWEST / name
    content = bytearray(file.read_bytes())
    content[-7] ^= 4
    file.write_bytes(content)
    outcome = rlhf("train", "resume=out")
    assert f"(skipped {NEWEST}: {name}: sha256 mismatch)" in outcome.err
    assert contents(run) == contents(finished)


def flip(file: Path, place: float, bit: int = 0) -> None:
    """Flip one bit of the file, at that share of its length."""
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1 << bit
    file.write_bytes(content)


@pytest.mark.case(61)
@pytest.mark.parametrize("file", ["config.json", "run.json", "evaluations.jsonl"])
@pytest.mark.parametrize(("place", "bit"), [(0.0, 7), (0.31, 0), (0.5, 2), (0.77, 1)])
def test_a_flipped_bit_beside_the_checkpoint_is_refused_and_nothing_is_written(
    file: str, place: float, bit: int, rlhf: Rlhf, copied: Callable[[], Path]
) -> None:
    run = copied()
    flip(run / file, place, bit)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    outcome = rlhf("train", "resume=out", "steps=8", "display=quiet")
    assert outcome.code == 5, outcome.err
    said = outcome.err.splitlines()[-1]
    assert said.startswith(f"error: {file} ")
    assert str(run / file) in said or file == "run.json"
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize("file", [f"checkpoints/{NEWEST}/MANIFEST.json", "result.json"])
def test_a_flipped_bit_of_a_finished_run_leaves_the_bytes_of_the_result(
    file: str, rlhf: Rlhf, finished: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "out")
    flip(run / file, 0.4)
    outcome = rlhf("train", "resume=out", "display=quiet")
    assert outcome.code == 0, outcome.err
    names = ("result.json", "evaluations.jsonl", "samples.jsonl")
    assert [(run / name).read_bytes() for name in names] == [(finished / name).read_bytes() for name in names]
