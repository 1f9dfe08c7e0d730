"""The CPU's vendor."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def cpu_vendor() -> str:
    """The CPU's vendor, such as GenuineIntel or AuthenticAMD; empty where the machine does not tell."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")
