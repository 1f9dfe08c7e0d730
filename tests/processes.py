"""`rlhf` in processes of its own, forked from the tests' process, which has imported everything and made a run.

Importing torch and transformers takes ten times as long as a tiny run, and a first run twice as long as a second.
`start` forks, so the process has a pid, signals and a death of its own; the trials of a sweep that runs in it, and the
other processes of a run, are forks of it. The only other threads of the tests' process are those of pytest-xdist, and
hold no lock that `rlhf` needs.
`start_fresh` is for what concerns the start of the interpreter.
"""

from __future__ import annotations

import gc
import importlib
import io
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Final

from tests.support import Outcome, gone

_FORK: Final = multiprocessing.get_context("fork")


class Process:
    """A running `rlhf`: what the tests need of subprocess.Popen."""

    def __init__(self, argv: tuple[str, ...], cwd: Path, before: str) -> None:
        importlib.import_module("tests.first_run")
        out, its_out = _FORK.Pipe(duplex=False)
        err, its_err = _FORK.Pipe(duplex=False)
        given = (argv, str(cwd), dict(os.environ), before, its_out, its_err)
        self._process = _FORK.Process(target=_be, args=given, daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 minds threads, of whatever kind
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
        """Wait for its end and return all that it printed, read meanwhile: a pipe may hold as little as a page."""
        with self.stdout, self.stderr, ThreadPoolExecutor(2) as readers:
            printed = [readers.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            return printed[0].result(), printed[1].result()

    def send_signal(self, number: int) -> None:
        """Nothing happens where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)


def start(*argv: str, cwd: Path, before: str = "") -> Process:
    """Run `rlhf ...` in a process of its own, after the code `before`, which may also be all that it runs."""
    return Process(argv, cwd, before)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are there, in this order: those of a run by rank."""
    shown = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return sorted(map(int, shown.stdout.split()))


def start_on_two(*argv: str, cwd: Path) -> tuple[Process, int]:
    """Start a run on two processes in the folder `two`, and wait for its first step; also returns the other process."""
    process = start(*argv, "shards=4", "processes=2", "run_dir=two", cwd=cwd)
    metrics, until = cwd / "two" / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_bytes().count(b"\n") > 2):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)
    (other,) = children(process.pid)
    return process, other


def go_on_after_a_loss(
    process: Process, other: int, said: str, verb: str, rlhf: Callable[..., Outcome], folder: Path, within_s: float
) -> bytes:
    """Check that a run without its other process ends in order; resume its first checkpoint; return its adapter."""
    begun = time.monotonic()
    _, err = process.communicate(timeout=within_s)
    assert time.monotonic() - begun < within_s
    assert process.returncode == 75, err
    assert said in err
    assert f"continue it by: rlhf {verb} resume=" in err
    assert gone(other)
    outcome = rlhf(verb, f"resume={min((folder / 'checkpoints').glob('step-*'))}", "steps=4")
    assert outcome.code == 0, outcome.err
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def start_fresh(*argv: str, cwd: Path) -> subprocess.Popen[str]:
    """Run `rlhf ...` in a new interpreter."""
    command = [sys.executable, "-c", "from rlhf_cli.cli import main; main()", *argv]
    # A signal may come while Python has the file of a module open that it imports, and nobody closes that one.
    environment = os.environ | {"PYTHONWARNINGS": "error,ignore::ResourceWarning"}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _text(pipe: Connection) -> io.TextIOWrapper:
    with pipe:
        return open(os.dup(pipe.fileno()), encoding="utf-8")


def _be(argv: tuple[str, ...], cwd: str, environment: dict[str, str], before: str, out: Any, err: Any) -> None:
    """Be `rlhf` to the end, in the fork."""
    gc.freeze()  # a file of the parent's that is collected here would close its number, which is another file's by then
    _begin(out, err, environment)
    os.chdir(cwd)
    os.fsync = lambda handle: None  # as in conftest.py
    tempfile.tempdir = None
    warnings.simplefilter("error")
    exec(before, {})
    from rlhf_cli.ranks import children
    from rlhf_cli.sweep import pool

    pool.subprocess = children.subprocess = SimpleNamespace(Popen=_Fork, DEVNULL=subprocess.DEVNULL)
    _main(argv)


def _begin(out: Any, err: Any, environment: Mapping[str, str]) -> None:
    """Let the fork print there in that environment, and hold and handle nothing else of its parent's."""
    for file, number in ((out, 1), (err, 2)):
        os.dup2(file.fileno(), number)
    os.closerange(3, 1024)  # a parent's lock or pipe would stay open with the fork
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(stop, signal.SIG_DFL if stop != signal.SIGINT else signal.default_int_handler)
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()  # they write to streams of the parent's, which are closed here
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(environment)


def _main(argv: Sequence[str]) -> None:
    sys.argv = ["rlhf", *argv]
    from rlhf_cli.cli import main

    main()


class _Fork:
    """A fork of a sweep that is one of its trials, or of a run that is one of its processes, as a subprocess.Popen."""

    def __init__(
        self, command: Sequence[str], *, stdin: int, stdout: IO[bytes], stderr: IO[bytes], env: Mapping[str, str],
        start_new_session: bool, cwd: str | None = None,
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
            os.chdir(cwd or ".")
            _begin(stdout, stderr, env)
            _main(command[command.index("rlhf_cli") + 1 :])
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
