"""Errors that the user can fix: one line with the mistake, its place and the fix; exit codes; lost readers."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

EXIT_DONE: Final = 0
EXIT_BUG: Final = 1
EXIT_USAGE: Final = 2
EXIT_DATA: Final = 3
EXIT_REWARD: Final = 4
EXIT_RESUME: Final = 5
EXIT_DISK: Final = 6
EXIT_NONFINITE: Final = 7
EXIT_SWEEP: Final = 8  # some trials of a sweep failed
EXIT_STOPPED: Final = 75  # EX_TEMPFAIL: stopped, and resumable
EXIT_INTERRUPTED: Final = 130  # as a shell reports Ctrl-C: stopped, with nothing to resume


class UserError(Exception):
    """Raised for anything that the user can fix; the command line shows it as one line, without a traceback.

    `what` is the mistake, `where` its key or file:line, `fix` the way to mend it. `saved` is the newest valid
    checkpoint of a run that had begun, or empty.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "", exit_code: int = EXIT_USAGE) -> None:
        self.what, self.where, self.fix, self.exit_code = what, where, fix, exit_code
        self.saved = ""
        super().__init__(what)

    def __str__(self) -> str:
        return self.line()

    def line(self) -> str:
        """The error as the user sees it: `what (where); fix: ...; newest valid checkpoint: ...`."""
        where = f" ({visible(self.where, '')})" if self.where else ""
        fix = f"; fix: {self.fix}" if self.fix else ""
        saved = f"; newest valid checkpoint: {self.saved}" if self.saved else ""
        return visible(f"{self.what}{where}{fix}{saved}")


def bad_data(what: str, where: str | Path, fix: str = "") -> UserError:
    """The error (exit 3) of a row, or of the data that it is from."""
    return UserError(what, where=str(where), fix=fix, exit_code=EXIT_DATA)


def bad_reward(what: str, where: str = "reward", fix: str = "") -> UserError:
    """The error (exit 4) of a reward, or of completions without scores."""
    return UserError(what, where=where, fix=fix, exit_code=EXIT_REWARD)


def bad_run(what: str, where: str | Path, fix: str = "") -> UserError:
    """The error (exit 5) of a run, or of one of its files, that cannot be used."""
    return UserError(what, where=str(where), fix=fix, exit_code=EXIT_RESUME)


def bad_disk(what: str, where: str | Path, fix: str = "") -> UserError:
    """The error (exit 6) of a place that cannot be written."""
    return UserError(what, where=str(where), fix=fix, exit_code=EXIT_DISK)


def visible(text: str, kept: str = "\n") -> str:
    """Replace each control character but the `kept` ones with a dot: foreign text must not control a terminal."""
    return "".join(c if c.isprintable() or c in kept else "\N{MIDDLE DOT}" for c in text)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def killed_by(code: int) -> str:
    """Name the signal that killed a process, whose exit code is minus its number; for SIGKILL also the likely cause."""
    name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
    return name + (", most likely for want of memory" if -code == signal.SIGKILL else "")


class Stopped(BaseException):
    """The user (Ctrl-C) or the machine (SIGTERM) asked the run to stop.

    It is a BaseException, so that no reward swallows it. `resumable`: the same command, or resume=, goes on from here.
    """

    def __init__(self, reason: str, *, resumable: bool = False) -> None:
        self.reason = reason
        self.resumable = resumable
        super().__init__(reason)


_FIXES: Final = {
    errno.ENOENT: "give, or go to, a folder that exists",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ENOTDIR: "give another path: a file is in the way",
    errno.EEXIST: "give another path: a file is in the way",
}


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn an OSError into a UserError (exit 6); a broken pipe passes."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, "free space or rights")
        raise bad_disk(f"the disk refuses: {error.strerror or error}", error.filename or "", fix) from error


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Let the block print what nobody may read to its end (`| head`): that is no error, here or when Python ends."""
    with suppress(BrokenPipeError):
        yield
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
