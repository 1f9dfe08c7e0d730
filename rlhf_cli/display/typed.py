"""Read the choices of a rater: a key on a terminal, a line where stdin is a pipe."""

import codecs
import io
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Typed:
    """Reads votes from stdin. A script may write lines ahead: they wait for their questions."""

    def __init__(self, console: Console) -> None:
        self._console, self._lines, self._ended = console, "", False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a note is text, whatever somebody types
        try:
            self._handle: int | None = sys.stdin.fileno()
        except (AttributeError, io.UnsupportedOperation, ValueError):  # no file of the system: all that it ever gives
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(encoding="utf-8", errors="replace")
            self._handle, self._ended = None, True
            self._lines = sys.stdin.read() if sys.stdin is not None else ""

    def read(self) -> tuple[str, str]:
        """A key, and after `n` the note. The end of the input is `q`."""
        if self._handle is not None and os.isatty(self._handle):
            with _keys(self._handle):
                key = _key(self._handle)
            return key, self._note() if key == "n" else ""
        while "\n" not in self._lines and not self._ended:
            self._fill()
        line, _, self._lines = self._lines.partition("\n")
        words = line.strip()
        if not words and self._ended and not self._lines:
            return "q", ""
        return (words[:1] if words[:1] == "n" else words) or " ", words[1:].strip()

    def wait(self, seconds: float) -> str | None:
        """Wait for that long; the key that is pressed meanwhile, `q` at the end of the input, else None.

        Lines of a pipe wait for the next question, but for `q`.
        """
        if self._handle is not None and os.isatty(self._handle):
            with _keys(self._handle):
                return _key(self._handle) if select.select([self._handle], [], [], seconds)[0] else None
        line, end, _ = self._lines.partition("\n")
        if (end and line.strip() == "q") or (self._ended and not self._lines.strip()):
            return "q"
        if self._handle is None or self._lines or self._ended:
            time.sleep(seconds)
        elif select.select([self._handle], [], [], seconds)[0]:
            self._fill()
        return None

    def _fill(self) -> None:
        assert self._handle is not None
        piece = os.read(self._handle, 1 << 16)
        self._ended = not piece
        self._lines += self._decoder.decode(piece, final=self._ended)

    def _note(self) -> str:
        try:
            return self._console.input("note: ").strip()
        except EOFError:  # Ctrl-D: no note
            return ""


@contextmanager
def _keys(handle: int) -> Iterator[None]:
    """Let keys come at once, without the Enter key.

    Keys that were pressed before are dropped: nobody votes on what is not shown yet.
    """
    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle)
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def _key(handle: int) -> str:
    """One key of the terminal. A key that sends several characters is none of ours."""
    pressed = os.read(handle, 32)
    while pressed[:1] == b"\x1b" and select.select([handle], [], [], 0)[0] and os.read(handle, 32):
        pass  # the rest of its characters
    if pressed in (b"", b"\x04"):  # the end: the terminal is gone, or Ctrl-D
        return "q"
    return pressed.decode(errors="replace").lower()
