"""Import torch, transformers and PEFT at once, while the garbage collector is off; and silence transformers.

They create some 400,000 objects that live until the end. The collector would scan them several times during the import,
at every full collection of a run, and again at the exit: a second of a short command's time.
"""

from __future__ import annotations

import gc
import logging
import sys


def import_libraries() -> None:
    """Import the libraries of a policy ahead of their first use; a second call does nothing."""
    if "peft" in sys.modules:
        return
    gc.disable()
    try:
        import peft  # noqa: F401  it imports the others, and their modules that any model needs
    finally:
        gc.enable()
    gc.freeze()


def silence_transformers() -> None:
    """Silence transformers' warnings and its bars for reading and writing weights; downloads keep theirs.

    The hub's library is silenced too: without a network it warns of each of its tries.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
