"""Run the trials of a sweep as processes: a few at a time, each with its own log, even where others fail."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from rlhf_cli.errors import EXIT_BUG, EXIT_DONE, EXIT_STOPPED, killed_by
from rlhf_cli.pipeline.signals import PARENT
from rlhf_cli.ranks.children import COMMAND
from rlhf_cli.runs.changes import FINGERPRINT_VARIABLE
from rlhf_cli.runs.folder import ENDING, TRIAL_LOG
from rlhf_cli.runs.listing import read_last_metrics, read_status
from rlhf_cli.runs.lock import is_locked
from rlhf_cli.sweep.record import Ending

INTERVAL_S: Final = 0.2
PATIENCE_S: Final = 60.0
"""Seconds that a trial waits for a folder that another process holds: trials of a killed sweep end at their next token.
After that it starts anyway, and fails."""
_TAIL: Final = 2**16
"""Bytes at a log's end that are searched for the reason."""

State = Literal["waiting", "running", "finished", "failed", "stopped"]
ENDINGS: Final[dict[int, State]] = {EXIT_DONE: "finished", EXIT_STOPPED: "stopped"}


@dataclass(frozen=True, slots=True)
class Job:
    """A trial that is to be run."""

    name: str
    """Tells it from the others: `beta=0.1,temperature=1`."""
    folder: Path
    arguments: tuple[str, ...]
    """Arguments of `rlhf`."""
    steps: int
    """Steps of the whole trial."""
    fingerprint: str
    """Fingerprint of its settings: its process refuses to run others."""
    is_done: bool
    """Whether it needs no process, because these settings are trained to the end."""
    number: int | None = None
    """Its number among the trials of a search; None: its place among all jobs."""

    @property
    def log(self) -> Path:
        """The file of all that its processes print."""
        return self.folder / TRIAL_LOG


@dataclass(slots=True)
class Standing:
    """The state of a trial, and how far it has come."""

    job: Job
    state: State = "waiting"
    reason: str | None = None
    """The reason for which it failed or was stopped."""
    was_done: bool = False
    """Whether it was finished before this sweep began."""
    step: int | None = None
    metrics: Mapping[str, float] | None = None
    """Metrics of the last step that has them."""

    def refresh(self) -> None:
        """Read how far it has come."""
        self.step, metrics = read_last_metrics(self.job.folder)
        self.metrics = metrics or None


class Process(Protocol):
    """The process of a trial."""

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""

    def send_signal(self, number: int) -> None:
        """Ask it to stop."""


StartTrial = Callable[[Job, Mapping[str, str]], Process]
"""Starts a trial, with environment variables of its own; raises OSError where that cannot be done."""


@dataclass(frozen=True, slots=True)
class _Running:
    process: Process
    slot: dict[str, str]
    begin: int
    """The byte of the log at which this start of the trial begins."""


class Pool:
    """Runs jobs in as many processes as there are slots."""

    def __init__(
        self,
        jobs: Sequence[Job],
        slots: Sequence[dict[str, str]],
        show: Callable[[Sequence[Standing]], None],
        check: Callable[[], None],
        start: StartTrial | None = None,
        ask: Callable[[], Job | None] = lambda: None,
        tell: Callable[[Standing], None] = lambda standing: None,
    ) -> None:
        """`show` is called with all standings several times a second; `check` raises where the sweep is to stop.

        `start` is `start_process` unless another is given. Where no job waits for a free slot, `ask` gives one more, or
        None for now; `tell` hears of each that ended.
        """
        self._ask, self._tell = ask, tell
        self._standings = [Standing(job) for job in jobs]
        self._free, self._show, self._check = list(slots), show, check
        self._start_trial = start or start_process
        self._running: dict[int, _Running] = {}
        self._stopping = False
        self._patient_until = time.monotonic() + PATIENCE_S

    def run(self) -> list[Standing]:
        """Run every trial that is not done, and return how all ended; a trial that was begun continues.

        Where `check` raises, the trials save their last complete step before the exception goes on.
        """
        for standing in self._standings:
            _mark_done(standing)
        try:
            self._start()
            while any(standing.state in ("waiting", "running") for standing in self._standings):
                self._wait(self._check)
                self._start()
        finally:
            self._stopping = True
            for running in self._running.values():
                with suppress(ProcessLookupError):
                    running.process.send_signal(signal.SIGTERM)
            while self._running:
                self._wait(lambda: None)
            self._show(self._standings)
        return self._standings

    def _start(self) -> None:
        """Fill the free slots."""
        for number, standing in enumerate(self._standings):
            if not self._free:
                break
            if standing.state != "waiting":
                continue
            if is_locked(standing.job.folder) and time.monotonic() < self._patient_until:
                continue
            try:
                self._running[number] = _begin(standing.job, self._free[0], self._start_trial)
                standing.state = "running"
                del self._free[0]
            except OSError as error:
                standing.state, standing.reason = "failed", f"it cannot be started: {error}"
        while self._free and not any(standing.state == "waiting" for standing in self._standings):
            job = self._ask()
            if job is None:
                break
            self._standings.append(standing := Standing(job))
            if _mark_done(standing):
                self._tell(standing)
            else:
                self._start()

    def _wait(self, check: Callable[[], None]) -> None:
        for number, running in list(self._running.items()):
            standing = self._standings[number]
            standing.refresh()
            code = running.process.poll()
            if code is not None:
                self._free.append(self._running.pop(number).slot)
                if self._stopping and code == -signal.SIGTERM:  # before or after it listens to signals
                    is_done = read_status(standing.job.folder).state == "finished"
                    ending = Ending(EXIT_DONE, "") if is_done else Ending(EXIT_STOPPED, "before its first step")
                else:
                    ending = Ending(code, explain_exit(code, standing.job.log, running.begin))
                with suppress(OSError):  # the folder is gone, or the disk full: the standing still counts
                    ending.write(standing.job.folder)
                standing.reason = ending.said or None
                standing.state = ENDINGS.get(ending.exit_code, "failed")
                self._tell(standing)
        self._show(self._standings)
        check()
        time.sleep(INTERVAL_S)


def _mark_done(standing: Standing) -> bool:
    """Mark a trial that needs no process as finished; return whether it is one."""
    if standing.job.is_done:
        standing.state, standing.was_done = "finished", True
        standing.refresh()
    return standing.job.is_done


def _begin(job: Job, slot: dict[str, str], start: StartTrial) -> _Running:
    """Start the process of a trial; raises OSError where the folder or the process cannot be made."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / ENDING).unlink(missing_ok=True)
    begin = job.log.stat().st_size if job.log.exists() else 0
    return _Running(start(job, slot), slot, begin)


def start_process(job: Job, slot: Mapping[str, str]) -> Process:
    """Start a trial as a process of this one."""
    return start_rlhf(job.arguments, job.log, {**slot, FINGERPRINT_VARIABLE: job.fingerprint}, None)


def start_rlhf(
    arguments: Sequence[str], log: Path, variables: Mapping[str, str], where: str | None
) -> subprocess.Popen[bytes]:
    """Start `rlhf` as a process of this one, with more environment variables; what it prints is added to the log."""
    environment = os.environ | variables | {PARENT: str(os.getpid())}
    with log.open("ab") as file:
        # a session of its own: Ctrl-C reaches this process alone, which passes it on
        return subprocess.Popen(
            [*COMMAND, *arguments], cwd=where, env=environment,
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip


def explain_exit(code: int, log: Path, begin: int) -> str:
    """Say why a process failed or was stopped, in one line; its part of the log begins at byte `begin`."""
    if code < 0:
        return f"killed by {killed_by(code)}"
    if code == EXIT_DONE:
        return ""
    try:
        with log.open("rb") as file:
            file.seek(max(begin, log.stat().st_size - _TAIL))
            lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    if code == EXIT_BUG:
        return f"crashed: {lines[-1].strip()}" if lines else "crashed"
    own = [line for line in lines if line.startswith(("error: ", "stopped: "))]
    return own[-1].split(": ", 1)[1] if own else f"exit code {code}"
