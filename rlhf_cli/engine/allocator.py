"""Memory that a step frees is kept for the next one: glibc would give it back, and take it again page by zeroed page.

`mallopt` tells the running process. Nothing has to be set before it starts, and no process that it starts inherits it.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Final

M_TRIM_THRESHOLD: Final = -1  # the numbers of malloc.h
M_MMAP_THRESHOLD: Final = -3
NEVER: Final = -1
"""What is free at the end of the heap stays there, however much it is."""
FROM_THE_HEAP: Final = (2**30, 2**25)
"""Blocks up to so many bytes come from the heap; older versions of glibc refuse the first and take the second."""
VARIABLES: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")
"""By which a user may have set the same."""


def keep_freed_memory() -> dict[str, str | int]:
    """Have malloc keep what is freed from here on; returns what is in effect, for the record.

    Nothing that is computed depends on it; the process is as large as it ever was. It changes nothing on systems other
    than Linux with glibc, where the environment sets malloc or puts another in its place, and with
    RLHF_ALLOCATOR=system. A second call says the same again.
    """
    name, version = platform.libc_ver()
    if name != "glibc" or os.environ.get("RLHF_ALLOCATOR") == "system":
        return {"kind": "system"}
    if _chosen_by_the_user():
        return {"kind": "environment"}
    libc = ctypes.CDLL(None)
    largest = next((size for size in FROM_THE_HEAP if libc.mallopt(M_MMAP_THRESHOLD, size)), 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    return {"kind": f"glibc {version}", "mmap_threshold": largest, "trim_threshold": NEVER}


def _chosen_by_the_user() -> bool:
    return (
        "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
        or "malloc" in os.environ.get("LD_PRELOAD", "")
        or any(name in os.environ for name in VARIABLES)
    )
