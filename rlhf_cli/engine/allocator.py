"""Keep the memory that a step frees for the next step; glibc would return it and fetch it again, zeroing every page.

`mallopt` changes the running process only: nothing to set before the start, nothing inherited by child processes.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Final

M_TRIM_THRESHOLD: Final = -1  # the numbers of malloc.h
M_MMAP_THRESHOLD: Final = -3
NEVER: Final = -1
"""Free memory at the end of the heap is never returned, whatever its size."""
FROM_THE_HEAP: Final = (2**30, 2**25)
"""Largest block in bytes that comes from the heap; older versions of glibc refuse the first and accept the second."""
VARIABLES: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")
"""Environment variables by which a user may have configured malloc."""


def keep_freed_memory() -> dict[str, str | int]:
    """Make malloc keep freed memory from now on; returns the settings in effect, for run.json.

    No result depends on it; the process stays at its largest size. It changes nothing on other systems than Linux with
    glibc, where the environment configures or replaces malloc, or with RLHF_ALLOCATOR=system. A second call returns the
    same.
    """
    name, version = platform.libc_ver()
    if name != "glibc" or os.environ.get("RLHF_ALLOCATOR") == "system":
        return {"kind": "system"}
    if _is_configured_by_user():
        return {"kind": "environment"}
    libc = ctypes.CDLL(None)
    largest = next((size for size in FROM_THE_HEAP if libc.mallopt(M_MMAP_THRESHOLD, size)), 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    return {"kind": f"glibc {version}", "mmap_threshold": largest, "trim_threshold": NEVER}


def return_freed_memory() -> None:
    """Return the memory that is free now, as a large part of what a process once needed may never be needed again."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _is_configured_by_user() -> bool:
    return (
        "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
        or "malloc" in os.environ.get("LD_PRELOAD", "")
        or any(name in os.environ for name in VARIABLES)
    )
