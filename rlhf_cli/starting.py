"""The time from Enter to a verb's own output: what a terminal shows meanwhile, and imports that cost no collection."""

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def show_start(verb: str, argv: Sequence[str]) -> Iterator[None]:
    """Say on a terminal that the verb starts, and take the line away at the end of the block.

    Nothing is said into a pipe, nor where the arguments ask for no display of the run.
    """
    stream = sys.stderr
    is_dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown")
    if not stream.isatty() or is_dumb or {"display=quiet", "display=json"} & {*argv}:
        yield
        return
    stream.write(f"rlhf {verb} starts ...")
    stream.flush()
    try:
        yield
    finally:
        stream.write("\r\x1b[K")
        stream.flush()


@contextmanager
def keep_imports() -> Iterator[None]:
    """Import within the block without the garbage collector, and have it never look at what was imported.

    Modules live until the end, so the collector would scan them for nothing: several times during the import, at every
    full collection afterwards, and again at the exit.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    gc.freeze()
