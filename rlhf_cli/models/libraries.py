"""Import torch, transformers and PEFT at once, kept from the garbage collector; silence them, and let threads sleep.

They create some 400,000 objects, and to collect them takes a second of a short command's time.
"""

import logging
import os
import sys
from collections.abc import MutableMapping
from functools import cache
from pathlib import Path
from typing import Final

from rlhf_cli.starting import keep_imports

SPINS: Final = "1000"
"""Times that a thread of GNU's OpenMP looks whether the others are done before it sleeps; by itself it looks for
milliseconds. Beside other programs the threads of torch wait for one that the system has put aside, and the time that
they spend looking is its time (docs/performance.md has the figures)."""
PATIENT: Final = "100000"
"""The same for a run that works with fewer threads beside other programs (engine/cpu.py): its threads have a core each,
and to be woken takes longer than to look."""
AMD: Final = "AuthenticAMD"
"""The vendor of CPUs where oneDNN multiplies float32 fastest; there the bits of a run depend on no thread."""


@cache
def cpu_vendor() -> str:
    """The CPU's vendor, such as GenuineIntel or AuthenticAMD; empty where the machine does not tell."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def import_libraries(*, makes_room: bool = False) -> None:
    """Import the libraries of a policy ahead of their first use; a second call does nothing.

    `makes_room` is that of `let_threads_sleep`.
    """
    if "peft" in sys.modules:
        return
    let_threads_sleep(os.environ, makes_room=makes_room)  # OpenMP reads it when torch is imported
    with keep_imports():
        import peft  # noqa: F401  it imports the others, and their modules that any model needs


def let_threads_sleep(environment: MutableMapping[str, str], *, makes_room: bool = False) -> None:
    """Say in the environment when threads sleep, unless its user has chosen how they wait.

    `makes_room`: whether the run takes threads away beside other programs, where the CPU allows it.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", PATIENT if makes_room and cpu_vendor() == AMD else SPINS)


def silence_transformers() -> None:
    """Silence transformers' warnings and its bars for reading and writing weights; downloads keep theirs.

    The hub's library is silenced too: without a network it warns of each of its tries.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
