"""The memory of a device, and models that are too large for it."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3Config, LlamaConfig, PretrainedConfig

from rlhf_cli.errors import UserError
from rlhf_cli.models import memory
from rlhf_cli.models.memory import (
    check_room,
    choose_device,
    dtype_on_cpu,
    is_out_of_memory,
    room_for_model,
    total_memory,
)

CPU = torch.device("cpu")
SMALL = LlamaConfig(
    vocab_size=100,
    hidden_size=8,
    intermediate_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    tie_word_embeddings=False,
)
WEIGHTS = 2 * 100 * 8 + (8 * 8 + 2 * 8 * 4 + 8 * 8) + 3 * 8 * 16 + 3 * 8
"""Embedding and output layer; q, k, v and o; gate, up and down; three norms: 2200."""


@pytest.mark.parametrize(
    ("dtype", "total", "expected"),
    [
        (torch.float32, 4 * WEIGHTS, None),
        (torch.float32, 4 * WEIGHTS - 1, ", or dtype=bfloat16: 0.0 GiB"),
        (torch.float32, 2 * WEIGHTS, ", or dtype=bfloat16: 0.0 GiB"),
        (torch.float32, 2 * WEIGHTS - 1, ""),
        (torch.bfloat16, 2 * WEIGHTS, None),
        (torch.bfloat16, 2 * WEIGHTS - 1, ""),
    ],
    ids=str,
)
def test_weights_that_no_memory_holds_are_refused(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, total: int, expected: str | None
) -> None:
    assert WEIGHTS == 2200
    monkeypatch.setattr(memory, "total_memory", lambda device: total)
    if expected is None:
        check_room(AutoModelForCausalLM, SMALL, dtype, CPU, "model.path", trusts=False)
        return
    with pytest.raises(UserError) as caught:
        check_room(AutoModelForCausalLM, SMALL, dtype, CPU, "model.path", trusts=False)
    name = {torch.float32: "float32", torch.bfloat16: "bfloat16"}[dtype]
    assert caught.value.line() == (
        f"the weights take 0.0 GiB in {name}, and there are 0.0 (model.path); fix: take a smaller model{expected}"
    )


def test_sizes_are_told_in_gibibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "GIB", 1000)
    monkeypatch.setattr(memory, "total_memory", lambda device: 5120)
    with pytest.raises(UserError, match=r"the weights take 8.8 GiB in float32, and there are 5.1 .*bfloat16: 4.4 GiB"):
        check_room(AutoModelForCausalLM, SMALL, torch.float32, CPU, "model.path", trusts=False)


def test_running_out_of_memory_while_loading_is_one_line_and_other_errors_stay() -> None:
    with pytest.raises(UserError, match=r"does not fit into the memory that is left \(model\)"), room_for_model():
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"left \(reward.path\)"), room_for_model("reward.path"):
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(ValueError, match="else"), room_for_model():
        raise ValueError("else")


def test_the_total_memory_does_not_change() -> None:
    found = total_memory(CPU)
    assert found > 2**28
    assert total_memory(CPU) == found


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: ..."), True),
        (RuntimeError("unable to mmap 11346177576 bytes from file <...>: Cannot allocate memory (12)"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=str,
)
def test_errors_that_are_out_of_memory(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_the_message_of_the_cpus_allocator_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("stored", "has_instructions", "expected"),
    [
        (LlamaConfig(dtype="bfloat16"), True, torch.bfloat16),
        (LlamaConfig(dtype="bfloat16"), False, torch.float32),
        (LlamaConfig(dtype="float32"), True, torch.float32),
        (LlamaConfig(dtype="float16"), True, torch.float32),  # bfloat16 would round it
        (LlamaConfig(), True, torch.float32),
        (Gemma3Config(text_config={"dtype": "bfloat16"}), True, torch.bfloat16),
    ],
)
def test_on_a_cpu_weights_are_bfloat16_where_nothing_is_lost_and_it_is_quick(
    stored: PretrainedConfig, has_instructions: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "multiplies_bfloat16", lambda: has_instructions)
    assert dtype_on_cpu(stored) is expected


@pytest.mark.parametrize(("name", "expected"), [("avx512_bf16", True), ("amx_bf16", True), ("avx512_f", False)])
def test_the_instructions_for_bfloat16(name: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", name: True})
    assert memory.multiplies_bfloat16.__wrapped__() is expected


def test_the_dtype_is_left_to_the_model_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_gpu, expected in ((False, ("cpu", None)), (True, ("cuda", torch.bfloat16))):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        device, dtype = choose_device("auto", "auto")
        assert (device.type, dtype) == expected
    assert choose_device("cpu", "float32") == (CPU, torch.float32)
    assert choose_device("cpu", "bfloat16") == (CPU, torch.bfloat16)
