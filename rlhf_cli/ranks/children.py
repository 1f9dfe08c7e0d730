"""The other processes of a run, as children of this one: start them, say why one is gone, end them.

It imports no torch, so that the children start while this process imports it.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from rlhf_cli.errors import UserError, killed_by
from rlhf_cli.runs.folder import RANKS

COMMAND: Final = (sys.executable, "-P", "-m", "rlhf_cli")
"""The command of another process of ours. -P: nothing is imported from the working directory."""
HOST: Final = "127.0.0.1"
PARENT: Final = "RLHF_PARENT"
"""The environment variable with the process id of the run that started this process."""
INTERFACE: Final = "GLOO_SOCKET_IFNAME"
"""The environment variable with the network interface by which processes meet."""
GRACE_S: Final = 2.0
"""Seconds for the children to end by themselves."""
_PR_SET_PDEATHSIG: Final = 1


def place(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """This process's rank and the number of processes, as torchrun or a run's first process sets them; else 0 and 1.

    Raises UserError for a rank that there is not, and where several processes have no place to meet.
    """
    rank, size = environment.get("RANK", ""), environment.get("WORLD_SIZE", "")
    if not (rank.isdecimal() and size.isdecimal()):
        return 0, 1
    fix = "start them with torchrun, or unset RANK and WORLD_SIZE"
    if int(rank) >= int(size):
        what = f"RANK={rank} is no process of WORLD_SIZE={size}: they count from 0"
        raise UserError(what, where="the environment", fix=fix)
    if int(size) > 1 and not (environment.get("MASTER_ADDR") and environment.get("MASTER_PORT", "").isdecimal()):
        what = f"RANK={rank} and WORLD_SIZE={size} name a process of several, and no place where they meet"
        raise UserError(what, where="MASTER_ADDR and MASTER_PORT in the environment", fix=fix)
    return int(rank), int(size)


class Children:
    """Processes 1 to `size` - 1 of a run of `rlhf VERB`; each writes what it prints to RUN/ranks/K.log."""

    def __init__(self, verb: str, size: int, folder: Path) -> None:
        self.socket = socket.socket()
        self.socket.bind((HOST, 0))  # this machine alone, at a port that is free
        self.port: int = self.socket.getsockname()[1]
        self._logs = folder / RANKS
        self._logs.mkdir(exist_ok=True)
        self._chose_interface = sys.platform != "win32" and INTERFACE not in os.environ
        if self._chose_interface:
            os.environ[INTERFACE] = "lo" if sys.platform == "linux" else "lo0"
        common = {"MASTER_ADDR": HOST, "MASTER_PORT": str(self.port), "WORLD_SIZE": str(size), PARENT: str(os.getpid())}
        command = [*COMMAND, *verb.split()]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        try:
            for rank in range(1, size):
                with self.log(rank).open("ab") as log:
                    # a session of its own: Ctrl-C reaches this process alone
                    self._processes[rank] = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                        env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    )  # fmt: skip
        except BaseException:
            self.end(0.0)
            raise

    def log(self, rank: int) -> Path:
        """The file of all that the process prints."""
        return self._logs / f"{rank}.log"

    def why_gone(self, rank: int) -> str | None:
        """The reason for which the process has ended; None while it runs."""
        code = self._processes[rank].poll()
        if code is None:
            return None
        if code < 0:
            return f"was killed by {killed_by(code)}"
        return f"ended with exit code {code}; see {self.log(rank)}"

    def kill(self) -> None:
        """End the children at once: a process that waits for one of them gets an error."""
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)

    def end(self, patience_s: float) -> None:
        """Wait for the children to end by themselves, and kill those that do not."""
        until = time.monotonic() + patience_s
        while any(process.poll() is None for process in self._processes.values()) and time.monotonic() < until:
            time.sleep(0.02)
        self.kill()
        while any(process.poll() is None for process in self._processes.values()):
            time.sleep(0.02)
        self.socket.close()
        if self._chose_interface:  # what this process starts later may have another network
            os.environ.pop(INTERFACE, None)


def die_with_parent(environment: Mapping[str, str] = os.environ) -> None:
    """Let this process end with the run that started it, however that ends; Linux alone can do so at once."""
    parent = environment.get(PARENT, "")
    if parent and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):  # it ended before that
            os._exit(1)
