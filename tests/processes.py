"""`rlhf` in processes of its own, forked from a server that has imported everything and made a run.

Importing torch and transformers takes ten times as long as a tiny run, and a first run twice as long as a second.
`start` forks, so the process has a pid, signals and a death of its own; the trials of a sweep that runs in it are forks
of it. `start_fresh` is for what concerns the start of the interpreter.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Final

IMPORTED: Final = ("tests.first_run", "transformers.models.gpt2.modeling_gpt2", "pytest")
"""A run of the tiny model with all that it imports, the other architecture, and a fork's main module."""

_SERVER: Final = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(list(IMPORTED))


class Process:
    """A running `rlhf`: what the tests need of subprocess.Popen."""

    def __init__(self, argv: tuple[str, ...], cwd: Path, before: str) -> None:
        out, its_out = _SERVER.Pipe(duplex=False)
        err, its_err = _SERVER.Pipe(duplex=False)
        given = (argv, str(cwd), dict(os.environ), before, its_out, its_err)
        self._process = _SERVER.Process(target=_be, args=given, daemon=True)
        self._process.start()
        its_out.close()
        its_err.close()
        self.stdout, self.stderr = _text(out), _text(err)
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises TimeoutExpired."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("rlhf", timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end and return all that it printed. A tiny run prints less than a pipe holds."""
        self.wait(timeout)
        with self.stdout, self.stderr:
            return self.stdout.read(), self.stderr.read()

    def send_signal(self, number: int) -> None:
        """Nothing happens where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)


def start(*argv: str, cwd: Path, before: str = "") -> Process:
    """Run `rlhf ...` in a process of its own, after the code `before`."""
    return Process(argv, cwd, before)


def start_fresh(*argv: str, cwd: Path) -> subprocess.Popen[str]:
    """Run `rlhf ...` in a new interpreter."""
    command = [sys.executable, "-c", "from rlhf_cli.cli import main; main()", *argv]
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _text(pipe: Connection) -> io.TextIOWrapper:
    with pipe:
        return open(os.dup(pipe.fileno()), encoding="utf-8")


def _be(argv: tuple[str, ...], cwd: str, environment: dict[str, str], before: str, out: Any, err: Any) -> None:
    """Be `rlhf` to the end, in the fork."""
    for pipe, number in ((out, 1), (err, 2)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    os.chdir(cwd)
    os.fsync = lambda handle: None  # as in conftest.py
    tempfile.tempdir = None
    warnings.simplefilter("error")
    exec(before, {})
    from rlhf_cli.sweep import pool

    pool.subprocess = SimpleNamespace(Popen=_Trial, DEVNULL=subprocess.DEVNULL)
    _main(argv, environment)


def _main(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["rlhf", *argv]
    from rlhf_cli.cli import main

    main()


class _Trial:
    """A fork of a sweep that is one of its trials: what the sweep needs of subprocess.Popen."""

    def __init__(
        self, command: Sequence[str], *, stdin: int, stdout: IO[bytes], stderr: IO[bytes], env: Mapping[str, str],
        start_new_session: bool,
    ) -> None:  # fmt: skip
        assert start_new_session
        assert stdin == subprocess.DEVNULL
        self.returncode: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid:
            return
        code: int | str | None = 1
        try:
            os.setsid()
            for file, number in ((stdout, 1), (stderr, 2)):
                os.dup2(file.fileno(), number)
            os.closerange(3, 1024)  # the sweep's lock is one of them
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
            _main(command[command.index("rlhf_cli") + 1 :], env)
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing happens where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)
