"""The number of completions that go through the model at once, and the memory of a step."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlhf_cli.engine import memory
from rlhf_cli.engine.memory import (
    _most,
    activation_bytes,
    forward_bytes,
    microbatch_size,
    peak,
    predicted_peak,
    resident,
)
from rlhf_cli.models.policy import Policy
from tests.unit.support import build, tiny


def test_the_bytes_of_a_row_by_hand(moved: Policy) -> None:
    # 2 layers * 10 tokens * (34 * 16 + 5 * 4 * 10) / 2 = 7440 values, at four bytes
    assert activation_bytes(moved, 10, recompute=False) == 29_760
    # and with the blocks' inputs alone: 10 * (34 * 16 + 5 * 4 * 10) / 2 + 2 layers * 10 * 16 = 4040 values
    assert activation_bytes(moved, 10, recompute=True) == 16_160


def test_bfloat16_takes_half() -> None:
    config = SimpleNamespace(hidden_size=16, num_attention_heads=4, num_hidden_layers=2)
    policy: Any = SimpleNamespace(
        causal=SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: config), dtype=torch.bfloat16)
    )
    assert activation_bytes(policy, 10, recompute=False) == 14_880


def rows(
    policy: Policy, monkeypatch: pytest.MonkeyPatch, *, length: int, completions: int, bytes_there: int, group: int = 1
) -> int:
    monkeypatch.setattr(memory, "total_memory", lambda device: bytes_there)
    return microbatch_size(policy, length, completions, group, recompute=False)


@pytest.mark.parametrize(
    ("length", "completions", "bytes_there", "expected"),
    [
        (10, 64, 10**9, 64),  # no more than there are
        (10, 1000, 10**9, 204),  # 2048 // 10: larger is hardly faster on a CPU, and takes more memory
        (10, 64, 1_000_000, 13),  # 0.4 of a million over 29,760
        (10, 64, 10, 1),  # at least one, whatever the memory
        (5000, 8, 10**12, 1),
    ],
)
def test_by_hand(
    moved: Policy, monkeypatch: pytest.MonkeyPatch, length: int, completions: int, bytes_there: int, expected: int
) -> None:
    assert rows(moved, monkeypatch, length=length, completions=completions, bytes_there=bytes_there) == expected


@pytest.mark.parametrize(("group", "expected"), [(1, 13), (4, 12), (6, 12), (13, 13), (16, 13)])
def test_groups_are_kept_whole_where_one_fits(
    moved: Policy, monkeypatch: pytest.MonkeyPatch, group: int, expected: int
) -> None:
    assert rows(moved, monkeypatch, length=10, completions=64, bytes_there=1_000_000, group=group) == expected


def test_the_predicted_peak_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resident", lambda device: 1_000_000)
    policy = build(tiny())
    blocks = 4 * sum(parameter.numel() for parameter in policy.causal.base_model.parameters())
    # rollout: 2 tensors * 2 layers * 2 key heads of 4 * 10 tokens * 6 completions * 4 bytes = 7,680, and the blocks;
    # both: 4 * 128 rows * 257 logits * 4 bytes, and 2 * 6 * 8 states of 16 * 4 bytes = 6,144
    both = 4 * 128 * 257 * 4 + 6_144
    assert predicted_peak(policy, 10, 8, 6, 1, recompute=False) == 1_000_000 + 7_680 + blocks + both
    # three at once: half of the cache, and all of the states; 300: more logits than of 128 rows
    at_once = partial(predicted_peak, policy, 10, 8, 6, 1, recompute=False)
    assert at_once(at_once=3) == 1_000_000 + 3_840 + blocks + both
    assert at_once(at_once=300) == 1_000_000 + 384_000 + blocks + 4 * 300 * 257 * 4 + 6_144
    # update: 0.6 of nine rows of 29,760 bytes, more than the rollout's; with recomputation 16,160
    assert 7_680 + blocks < 160_704
    assert predicted_peak(policy, 10, 8, 6, 9, recompute=False) == 1_000_000 + 160_704 + both
    assert predicted_peak(policy, 10, 8, 6, 9, recompute=True) == 1_000_000 + max(9 * 16_160, 7_680 + blocks) + both


def test_layers_may_differ() -> None:
    """In transformers a setting that differs can be read from the layers' configs alone."""

    class Differing:
        per_layer_config = (SimpleNamespace(head_dim=8), SimpleNamespace(head_dim=None), SimpleNamespace(head_dim=4))

        @property
        def head_dim(self) -> int:
            raise RuntimeError("head_dim is a per-layer attribute")

    assert _most(Differing(), "head_dim", 2) == 8
    assert _most(Differing(), "num_key_value_heads", 2) == 2
    assert _most(SimpleNamespace(head_dim=16), "head_dim", 2) == 16


def test_the_memory_of_children_is_what_they_have_now() -> None:
    """A child that holds 64 MiB."""
    before, holds = (
        memory.resident_of_children(),
        "import sys; held = b'1' * 2**26; print(flush=True); sys.stdin.read()",
    )
    with subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 2**26 <= memory.resident_of_children() - before < 2**27
        child.communicate()
    assert memory.resident_of_children() == before


def test_in_bfloat16_an_invariant_engine_has_a_cache_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resident", lambda device: 1_000_000)
    policy = build(tiny())
    policy.causal.to(torch.bfloat16)
    wide, narrow = (predicted_peak(policy, 10, 8, 6, 1, recompute=False, invariant=it) for it in (True, False))
    assert wide - narrow == 7_680 - 3_840
    # an update: 99 rows of 14,880 bytes, of which 0.6 are kept where all is bfloat16, and 0.87 beside float32
    blocks = 2 * sum(parameter.numel() for parameter in policy.causal.base_model.parameters())
    wide, narrow = (predicted_peak(policy, 10, 8, 6, 99, recompute=False, invariant=it) for it in (True, False))
    assert wide - narrow == round(0.87 * 99 * 14_880) - round(0.6 * 99 * 14_880)
    assert 7_680 + blocks < 0.6 * 99 * 14_880
    # 60 completions: a rollout of 76,800 bytes in float32, and in bfloat16 of 38,400, both above the reading's 8,080
    wide, narrow = (
        predicted_peak(policy, 10, 8, 60, 1, recompute=True, invariant=it, trained=False) for it in (True, False)
    )
    assert wide - narrow == 76_800 - 38_400


def test_the_peak_of_a_reference_that_is_another_model_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, without a second copy of the blocks, and without what a gradient needs."""
    monkeypatch.setattr(memory, "resident", lambda device: 1_000_000)
    both = 4 * 128 * 257 * 4 + 6_144
    reading = partial(predicted_peak, build(tiny()), 10, 8, recompute=True, trained=False)
    assert reading(completions=6, microbatch=1) == 1_000_000 + 16_160 + both
    assert reading(completions=60, microbatch=1) == 1_000_000 + 76_800 + 4 * 128 * 257 * 4 + 61_440


def test_the_bytes_of_a_forward_pass_by_hand() -> None:
    # 2 layers: q 16, k 8, v 8, o 16, gate and up 2 * 32, down 16, of 4 bytes each
    assert forward_bytes(build(tiny()), 10) == 10 * 2 * (16 + 8 + 8 + 16 + 64 + 16) * 4


def test_the_peak_is_at_least_what_is_resident() -> None:
    device = torch.device("cpu")
    ballast = torch.ones(2**24)  # 64 MiB
    assert resident(device) > 2**26
    assert peak(device) > 0.9 * resident(device) > 0.9 * ballast.nbytes  # the kernel counts a few pages late


def test_more_memory_never_gives_fewer_rows_and_longer_texts_never_more(
    moved: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_memory = [rows(moved, monkeypatch, length=30, completions=32, bytes_there=2**k) for k in range(10, 40)]
    assert by_memory == sorted(by_memory)
    assert (by_memory[0], by_memory[-1]) == (1, 32)
    by_length = [rows(moved, monkeypatch, length=n, completions=32, bytes_there=10**7) for n in range(1, 200)]
    assert by_length == sorted(by_length, reverse=True)
    assert by_length[0] > by_length[-1]
