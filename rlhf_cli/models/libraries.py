"""torch, transformers and PEFT, imported in one go while the garbage collector is off.

They make some 400,000 objects that stay until the end. The collector would look through them several times while they
come, at every full collection of a run, and once more at the exit: a second of a short command's time.
"""

from __future__ import annotations

import gc
import sys


def import_libraries() -> None:
    """Import what a policy is made of, for those who import it later; a second call does nothing."""
    if "peft" in sys.modules:
        return
    gc.disable()
    try:
        import peft  # noqa: F401  it imports the others, and the modules of theirs that any model needs
    finally:
        gc.enable()
    gc.freeze()
