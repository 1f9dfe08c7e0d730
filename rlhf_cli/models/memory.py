"""A device: which one a setting means, its processor, how much memory it has, and running out of it."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import torch

from rlhf_cli.errors import UserError
from rlhf_cli.models.libraries import cpu_vendor

if TYPE_CHECKING:
    from transformers import PretrainedConfig

MIB: Final = 2**20
GIB: Final = 2**30
DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The types that weights may have, by their names in settings."""


def choose_device(device: str, dtype: str) -> tuple[torch.device, torch.dtype | None]:
    """The device and the dtype of weights; auto: a GPU where there is one, and bfloat16 there.

    The dtype is None where it is left to the model: `dtype_on_cpu` decides.
    """
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(automatic if device == "auto" else device)
    return place, DTYPES.get(dtype) or (torch.bfloat16 if place.type == "cuda" else None)


def dtype_on_cpu(config: PretrainedConfig) -> torch.dtype:
    """bfloat16 where the model's file says so and the CPU has instructions for it, otherwise float32."""
    stored = config.dtype or config.get_text_config().dtype
    return torch.bfloat16 if stored == torch.bfloat16 and multiplies_bfloat16() else torch.float32


@cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU has AVX-512 BF16 or AMX; without them products in bfloat16 take longer than in float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def processor_of(device: torch.device) -> str:
    """The name of the GPU, or the maker of the CPU and its widest instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_vendor() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def total_memory(device: torch.device) -> int:
    """Total memory of the device, or of the container where that is less, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    machine = int(psutil.virtual_memory().total)
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return machine if text == "max" else min(machine, int(text))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error is a failed allocation: CUDA has a type for it, the CPU's allocator only a message."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def check_room(kind: Any, config: Any, dtype: torch.dtype, device: torch.device, where: str, *, trusts: bool) -> None:
    """Raise UserError where the weights alone take more memory than the device has; none are loaded for it.

    `kind` is one of transformers' classes, `config` that of the model. Where the system grants more memory than there
    is, as Linux does, it would end the process without a word.
    """
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in kind.from_config(config, trust_remote_code=trusts).parameters())
    total = total_memory(device)
    if count * dtype.itemsize > total:
        half = dtype.itemsize > 2 and count * 2 <= total
        name, needed, has = str(dtype).removeprefix("torch."), count * dtype.itemsize / GIB, total / GIB
        raise UserError(
            f"the weights take {needed:,.1f} GiB in {name}, and there are {has:,.1f}",
            where=where,
            fix=f"take a smaller model{f', or dtype=bfloat16: {count * 2 / GIB:,.1f} GiB' if half else ''}",
        )


@contextmanager
def memory_errors(what: str, where: str, fix: str) -> Iterator[None]:
    """Turn running out of memory inside into a UserError."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(what, where=where, fix=fix) from error


def room_for_model(where: str = "model") -> AbstractContextManager[None]:
    """Turn running out of memory, while a model is loaded inside, into a UserError about the setting `where`."""
    fix = "end what else needs it, or take a smaller model"
    return memory_errors("the model does not fit into the memory that is left", where, fix)
