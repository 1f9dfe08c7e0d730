"""What a sweep writes down."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.sweep.record import Ending, SweepRecord, Trial, group_by_point

TRIALS = tuple(
    Trial(f"beta={beta},seed={seed}-abc", {"beta": beta, "seed": seed}) for beta in ("0.1", "0.2") for seed in "01"
)


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    sweep = SweepRecord(tmp_path, "rlhf train -m beta=0.1,0.2 'seed=0,1'", TRIALS)
    sweep.write()
    assert SweepRecord.read(tmp_path) == sweep
    assert sweep.path(TRIALS[0]) == tmp_path / "beta=0.1,seed=0-abc"


def test_the_record_of_an_earlier_version_has_no_steps(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"command": "x", "trials": [{"name": "a", "told": {"beta": "1"}}]}')
    sweep = SweepRecord.read(tmp_path)
    assert sweep is not None
    assert [trial.steps for trial in sweep.trials] == [0]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"command": "x", "trials": [1]}', '{"command": "x", "trials": 3}'])
def test_what_is_no_record_is_none(tmp_path: Path, text: str) -> None:
    assert SweepRecord.read(tmp_path) is None
    (tmp_path / "sweep.json").write_text(text)
    (tmp_path / "trial.json").write_text(text)
    assert SweepRecord.read(tmp_path) is None
    assert Ending.read(tmp_path) is None


@pytest.mark.case(61)
@given(st.integers(0, 10**5))
def test_a_flipped_bit_is_named_or_leaves_no_record(tmp_path: Path, place: int) -> None:
    file = tmp_path / "sweep.json"
    SweepRecord(tmp_path, "rlhf train -m beta=0.1,0.2", TRIALS, compare_at=0.1).write()
    content = bytearray(file.read_bytes())
    content[place // 8 % len(content)] ^= 1 << place % 8
    file.write_bytes(content)
    with suppress(UserError):
        assert SweepRecord.read(tmp_path) is None


def test_another_beta_of_comparison_is_noticed(tmp_path: Path) -> None:
    SweepRecord(tmp_path, "rlhf train -m beta=0.1,0.2", TRIALS, compare_at=0.1).write()
    file = tmp_path / "sweep.json"
    file.write_text(file.read_text().replace('"compare_at": 0.1', '"compare_at": 0.2'))
    with pytest.raises(UserError, match=r"^sweep.json is not what the sweep wrote") as error:
        SweepRecord.read(tmp_path)
    assert error.value.exit_code == EXIT_RESUME


def test_replicates_are_of_one_point() -> None:
    assert group_by_point(TRIALS) == {(("beta", "0.1"),): [*TRIALS[:2]], (("beta", "0.2"),): [*TRIALS[2:]]}
    assert group_by_point(TRIALS[:1]) == {(("beta", "0.1"),): [TRIALS[0]]}
    assert group_by_point((Trial("seed=0", {"seed": "0"}), Trial("seed=1", {"seed": "1"}))).keys() == {()}
