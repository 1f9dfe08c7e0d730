"""End a process with everything that it started, also processes that left its group or lost their parent.

worker.py loads this file as well, so it imports only the standard library.
"""

import contextlib
import os
import signal
from collections.abc import Collection
from typing import Final

MARK: Final = "RLHF_REWARD_PROCESS"
"""The environment variable by which the processes that a reward's process starts are recognised."""
ROUNDS: Final = 20
"""The number of rounds that look for processes that were started meanwhile."""


def end_all(pid: int, mark: str, family: Collection[int] = ()) -> None:
    """Kill the group of `pid`, its descendants, every process with the mark, and `family`; the caller lives on."""
    for number in range(ROUNDS):
        alive = find_family(pid, mark)  # before the group is killed: an orphan is no descendant any more
        if number == 0:
            alive |= set(family)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgrp() != pid:
                os.killpg(pid, signal.SIGKILL)
        for one in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
        if not alive:
            return


def find_family(root: int, mark: str) -> set[int]:
    """Find the descendants of `root` and the processes with the mark that still run; none without /proc."""
    entry = f"{MARK}={mark}".encode()
    parents, marked = dict[int, int](), set[int]()
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b") ")[2].split()[:2]
            if state in (b"Z", b"X"):
                continue
            parents[int(name)] = int(parent)
            with open(f"/proc/{name}/environ", "rb") as file:
                if entry in file.read().split(b"\0"):
                    marked.add(int(name))
    family = {root}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return (family & parents.keys()) | marked
