"""A policy on its device, in its dtype, with an adapter that follows from the seed."""

from __future__ import annotations

import pytest
import torch

from rlhf_cli.engine import opening
from rlhf_cli.engine.opening import load_policy, place_of
from rlhf_cli.errors import UserError
from rlhf_cli.models.settings import OtherModel
from tests.unit.support import config_of


def test_the_adapter_follows_from_the_runs_seed() -> None:
    one, same, other = (load_policy(config_of(seed=seed), print).parameters() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("dtype", "expected"), [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_the_frozen_weights_have_the_dtype_and_the_adapter_is_float32(dtype: str, expected: torch.dtype) -> None:
    policy = load_policy(config_of(dtype=dtype), print)
    assert policy.causal.dtype == expected
    assert {parameter.dtype for parameter in policy.parameters().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("dtype", "has", "count"), [("bfloat16", False, 1), ("bfloat16", True, 0), ("float32", False, 0)]
)
def test_bfloat16_without_instructions_is_noted(
    dtype: str, has: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "multiplies_bfloat16", lambda: has)
    notes: list[str] = []
    load_policy(config_of(dtype=dtype), notes.append)
    assert ["this CPU has neither AVX-512 BF16 nor AMX" in line for line in notes] == [True] * count


@pytest.mark.usefixtures("one_thread")
def test_threads_are_set_where_they_are_given() -> None:
    load_policy(config_of(threads=2), print)
    assert torch.get_num_threads() == 2
    load_policy(config_of(threads=None), print)  # not what the trial before it had
    assert torch.get_num_threads() == opening.THREADS


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert place_of(config_of(device="auto")) == (torch.device("cpu"), None)
    for name in ("cuda", "cuda:1"):
        with pytest.raises(UserError) as caught:
            place_of(config_of(device=name))
        assert caught.value.line() == f"no {name} on this machine (device); fix: use device=auto or device=cpu"


def test_a_second_gpu_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert place_of(config_of(device="auto")) == (torch.device("cuda"), torch.bfloat16)
    assert place_of(config_of(device="cuda:0")) == (torch.device("cuda:0"), torch.bfloat16)
    with pytest.raises(UserError, match=r"^no cuda:1 on this machine"):
        place_of(config_of(device="cuda:1"))


def test_beside_an_adapter_in_the_reference_no_weights_are_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    teacher = {"kind": "model", "path": "teacher", "revision": None, "adapter": None}
    for adapter, expected in ((None, None), ("teacher/adapter", torch.float32)):
        reference = OtherModel.model_validate(teacher | {"adapter": adapter})
        assert place_of(config_of(reference=reference))[1] is expected
