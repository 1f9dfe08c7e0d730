"""Import torch, transformers and PEFT at once, kept from the garbage collector; silence them, and let threads sleep.

They create some 400,000 objects, and to collect them takes a second of a short command's time.
"""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Final

from rlhf_cli.starting import keep_imports

SPINS: Final = "1000"
"""Times that a thread of GNU's OpenMP looks whether the others are done before it sleeps; by itself it looks for
milliseconds. Beside other programs the threads of torch wait for one that the system has put aside, and the time that
they spend looking is its time (docs/performance.md has the figures)."""


def import_libraries() -> None:
    """Import the libraries of a policy ahead of their first use; a second call does nothing."""
    if "peft" in sys.modules:
        return
    let_threads_sleep(os.environ)  # OpenMP reads it when torch is imported
    with keep_imports():
        import peft  # noqa: F401  it imports the others, and their modules that any model needs


def let_threads_sleep(environment: MutableMapping[str, str]) -> None:
    """Set SPINS in the environment, unless its user has chosen how threads wait."""
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)


def silence_transformers() -> None:
    """Silence transformers' warnings and its bars for reading and writing weights; downloads keep theirs.

    The hub's library is silenced too: without a network it warns of each of its tries.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
