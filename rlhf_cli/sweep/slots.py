"""How many trials run at once, and what each may use: a GPU, or its share of the processor."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Final

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
THREADS: Final = "OMP_NUM_THREADS"


def slots(
    jobs: int | None, gpus: Sequence[str], cores: int, environment: Mapping[str, str] = os.environ
) -> list[dict[str, str]]:
    """What to add to the environment of each trial that may run at a time.

    One trial on each GPU, or `jobs` of them spread over the GPUs; without a GPU one after the other, or `jobs` of them,
    each with its share of the cores where the user has not said how many threads there are to be.
    """
    if gpus:
        return [{VISIBLE: gpu} for gpu in islice(cycle(gpus), jobs or len(gpus))]
    if jobs is None or jobs == 1 or THREADS in environment:
        return [{}] * (jobs or 1)
    return [{THREADS: str(max(1, cores // jobs))}] * jobs


def available_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """What CUDA_VISIBLE_DEVICES names, or every GPU that nvidia-smi lists (torch knows them too, and takes seconds)."""
    named = environment.get(VISIBLE)
    if named is not None:
        found = [name.strip() for name in named.split(",")]
        return found[: found.index("-1")] if "-1" in found else [name for name in found if name]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    asked = [tool, "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.split()
