"""Processes that share a run have to be alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.reference import TwoModels
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks.team import SAME, check_alike, describe
from tests.unit.support import build, tiny

FIRST = dict.fromkeys(SAME, "ab") | {"engine": "native, invariant=True", "processor": "AVX512", "torch": "2.9"}


def nothing() -> None:
    """A tick that nobody counts."""


def test_processes_that_are_alike_are_not_spoken_of() -> None:
    notes = list[str]()
    check_alike([FIRST, dict(FIRST), dict(FIRST)], notes.append)
    assert notes == []


@pytest.mark.parametrize("name", SAME)
def test_another_model_is_refused_with_its_rank(name: str) -> None:
    with pytest.raises(UserError) as caught:
        check_alike([FIRST, FIRST, FIRST | {name: "other"}], list[str]().append)
    assert caught.value.line() == f"rank 2 has another {name} (model); fix: give all hosts the same files"


def test_another_processor_and_version_are_noted() -> None:
    notes = list[str]()
    check_alike([FIRST, FIRST | {"processor": "AVX2", "torch": "2.8"}], notes.append)
    assert notes == [
        f"rank 1 has another {what}: the run's bytes depend on which process calculates what"
        for what in ("processor (AVX2, and rank 0 AVX512)", "torch (2.8, and rank 0 2.9)")
    ]


def test_a_process_is_described_by_all_that_its_numbers_depend_on(moved_policies: Callable[[str], Policy]) -> None:
    policy = moved_policies("llama")
    plain = describe(policy, TransformersEngine(policy), tick=nothing)
    assert plain["engine"] == "transformers, invariant=False"
    assert describe(policy, NativeEngine(policy), tick=nothing)["engine"] == "native, invariant=False"
    other = build(tiny("llama", seed=1))
    differing = describe(other, TransformersEngine(other), tick=nothing)
    assert {name for name in plain if plain[name] != differing[name]} == {"model"}
    both = describe(policy, TwoModels(NativeEngine(policy), NativeEngine(other)), tick=nothing)
    assert (both["reference"], both["engine"]) == (differing["model"], "native, invariant=False")
