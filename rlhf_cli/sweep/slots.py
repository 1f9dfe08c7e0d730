"""Divide the machine among the trials that run at once: a GPU each, or a share of the processor."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Final

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
THREADS: Final = "OMP_NUM_THREADS"


def share(jobs: int, cores: int, environment: Mapping[str, str] = os.environ) -> int:
    """CPU threads of a trial where `jobs` run at once: its share of the cores, or the number that the user has set.

    0 leaves the choice to torch.
    """
    if THREADS in environment:
        return int(environment[THREADS]) if environment[THREADS].isdecimal() else 0
    return 0 if jobs == 1 else max(1, cores // jobs)


def slots(jobs: int | None, gpus: Sequence[str], threads: int) -> list[dict[str, str]]:
    """The environment variables of each slot; as many trials run at once as there are slots.

    With GPUs: a slot on each, or `jobs` slots spread over them. Without: one slot, or `jobs`, each with `threads`.
    """
    if gpus:
        return [{VISIBLE: gpu} for gpu in islice(cycle(gpus), jobs or len(gpus))]
    return [{THREADS: str(threads)} if threads else {}] * (jobs or 1)


def available_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES names, else all that nvidia-smi lists: asking torch would take seconds."""
    named = environment.get(VISIBLE)
    if named is not None:
        gpus = [name.strip() for name in named.split(",")]
        return gpus[: gpus.index("-1")] if "-1" in gpus else [name for name in gpus if name]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=index", "--format=csv,noheader"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return listing.stdout.split()
