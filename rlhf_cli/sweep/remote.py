"""A trial as a process that a worker of joblib, Ray or Slurm starts; it is pickled, and imports little."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from rlhf_cli.errors import EXIT_STOPPED
from rlhf_cli.sweep.pool import start_rlhf

POLL_S: Final = 0.2


@dataclass
class RemoteTrial:
    """A call runs the trial to its end, and returns its exit code. It stops once the file `unwanted` is there, and
    where the process that started the worker is gone."""

    arguments: tuple[str, ...]
    where: str
    """The folder in which the sweep was started."""
    log: Path
    unwanted: Path
    variables: Mapping[str, str]
    """Environment variables of its own."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, compare=False)

    def __call__(self) -> int:
        """Start the process and wait for its end."""
        if self.unwanted.exists():
            return EXIT_STOPPED
        process = self._process = start_rlhf(self.arguments, self.log, self.variables, self.where)
        asked, parent = False, os.getppid()
        while process.poll() is None:
            try:
                time.sleep(POLL_S)
                stop = not asked and (self.unwanted.exists() or os.getppid() != parent)
            except KeyboardInterrupt:  # Ctrl-C in the terminal, or Ray's cancel
                stop = not asked
            if stop:
                process.send_signal(signal.SIGTERM)
                asked = True
        return process.returncode

    def checkpoint(self) -> Any:
        """Save, and return the job that goes on: submitit calls it in the process that waits, before the time is up."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.send_signal(signal.SIGUSR1)
            self._process.wait()
        return DelayedSubmission(replace(self))
