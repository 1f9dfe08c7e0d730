"""Keep the memory that a step frees for the next step; glibc would return it and fetch it again, zeroing every page.

`mallopt` changes the running process only: nothing to set before the start, nothing inherited by child processes.
"""

import ctypes
import os
import platform
from collections.abc import Sequence
from typing import Final

M_TRIM_THRESHOLD: Final = -1  # the numbers of malloc.h
M_MMAP_THRESHOLD: Final = -3
NEVER: Final = -1
"""Free memory at the end of the heap is never returned, whatever its size."""
FROM_THE_HEAP: Final = (2**30, 2**25)
"""Largest block in bytes that comes from the heap; older versions of glibc refuse the first and accept the second."""
LARGE: Final = 2**20
"""Bytes from which on a block is returned as soon as it is freed, where memory is not kept."""
VARIABLES: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")
"""Environment variables by which a user may have configured malloc."""


def keep_freed_memory() -> dict[str, str | int]:
    """Make malloc keep freed memory from now on; returns the settings in effect, for run.json.

    No result depends on it; the process stays at its largest size. It changes nothing on other systems than Linux with
    glibc, where the environment configures or replaces malloc, or with RLHF_ALLOCATOR=system. A second call returns the
    same.
    """
    return _configure(FROM_THE_HEAP, NEVER)


def return_freed_memory() -> dict[str, str | int]:
    """Make malloc return freed memory from now on, and return what is free; gives the settings in effect, for run.json.

    The layers of a sharded model come and go in every pass, and on the heap each of them finds no gap that fits: the
    parts of 362 MB took 1.9 GB.
    """
    settings = _configure((LARGE,), LARGE)
    if str(settings["kind"]).startswith("glibc"):
        ctypes.CDLL(None).malloc_trim(0)
    return settings


def _configure(mmap_thresholds: Sequence[int], trim_threshold: int) -> dict[str, str | int]:
    """Set the first threshold that malloc accepts, unless it is not glibc's own or someone else has configured it."""
    name, version = platform.libc_ver()
    if name != "glibc" or os.environ.get("RLHF_ALLOCATOR") == "system":
        return {"kind": "system"}
    if _is_configured_by_user():
        return {"kind": "environment"}
    libc = ctypes.CDLL(None)
    largest = next((size for size in mmap_thresholds if libc.mallopt(M_MMAP_THRESHOLD, size)), 0)
    libc.mallopt(M_TRIM_THRESHOLD, trim_threshold)
    return {"kind": f"glibc {version}", "mmap_threshold": largest, "trim_threshold": trim_threshold}


def _is_configured_by_user() -> bool:
    return (
        "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
        or "malloc" in os.environ.get("LD_PRELOAD", "")
        or any(name in os.environ for name in VARIABLES)
    )
