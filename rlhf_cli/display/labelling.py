"""Ask for votes on a terminal, by keys, or line by line where stdin is a pipe; questions go to stderr."""

from __future__ import annotations

import io
import os
import select
import sys
import termios
import tty
from collections.abc import Callable
from typing import Final

from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.text import Text

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.feedback.readable import one_line, readable
from rlhf_cli.feedback.saying import describe
from rlhf_cli.feedback.session import Question, Session
from rlhf_cli.feedback.tally import Tally
from rlhf_cli.feedback.votes import Choice

KEYS: Final = "1 first  2 second  t tie  b both bad  s skip  u undo  n note  q leave"
CHOICES: Final[dict[str, Choice]] = {"t": "tie", "b": "both_bad", "s": "skip"}
SIDE_BY_SIDE: Final = 100
"""Width of a terminal on which two texts stand beside each other."""


def label(session: Session, shown: Callable[[], str] | None) -> None:
    """Ask until every pair has a vote or the rater leaves; each vote is on disk before the next question.

    `shown` gives the present win rate, for a rater who wants to see it.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):  # a note is text, whatever the locale says and somebody types
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    console, note, asked = Console(stderr=True, highlight=False), "", False
    question = session.question()
    while question is not None:
        if not asked:
            _ask(question, console, shown)
            asked = True
        key, said = _read(console)
        if key == "q":
            break
        if key == "u":
            if not session.undo():
                console.print("nothing to take back", style="yellow")
        elif key == "n":
            note = said
            console.print(f"note: {one_line(note)}" if note else "no note", markup=False)
            continue
        elif key in ("1", "2"):
            session.answer(question, question.left if key == "1" else question.right, note)
        elif key in CHOICES:
            session.answer(question, CHOICES[key], note)
        else:
            console.print(KEYS, markup=False)
            continue
        console.print("taken back" if key == "u" else "saved", style="dim")
        note, asked = "", False
        question = session.question()
    console.print()


def _ask(question: Question, console: Console, shown: Callable[[], str] | None) -> None:
    rate = f"  {shown()}" if shown else ""
    console.rule(Text(f"pair {question.number} of {question.of}{rate}"), align="left")
    console.print(Text(readable(question.pair.prompt), style="cyan"))
    texts = question.pair.text
    panels: list[RenderableType] = [
        Panel(Text(readable(texts[side]) or "(empty)"), title=name, title_align="left", expand=True)
        for name, side in (("1", question.left), ("2", question.right))
    ]
    if console.width >= SIDE_BY_SIDE:
        half = (console.width - 2) // 2
        for panel in panels:
            assert isinstance(panel, Panel)
            panel.width = half
        console.print(Columns(panels, padding=(0, 1)))
    else:
        for panel in panels:
            console.print(panel)
    console.print(KEYS, style="dim", markup=False)


def _read(console: Console) -> tuple[str, str]:
    """A key, and after `n` the note. The end of the input is `q`."""
    if sys.stdin.isatty():
        key = _key()
        if key != "n":
            return key, ""
        try:
            return key, console.input("note: ").strip()
        except EOFError:  # Ctrl-D: no note
            return key, ""
    line = sys.stdin.readline()
    words = line.strip()
    return (words[:1] if words[:1] == "n" else words) or ("q" if not line else " "), words[1:].strip()


def _key() -> str:
    """One key of the terminal. A key that sends several characters is none of ours.

    Keys that were pressed before are dropped: nobody votes on what is not shown yet.
    """
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle)
        pressed = os.read(handle, 32)
        while select.select([handle], [], [], 0)[0] and pressed[:1] == b"\x1b":
            os.read(handle, 32)
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
    if pressed in (b"", b"\x04"):  # the end: the terminal is gone, or Ctrl-D
        return "q"
    return pressed.decode(errors="replace").lower()


def show_tally(tally: Tally, titles: tuple[str, str]) -> None:
    """Print what the votes say, on stdout."""
    console = ResultConsole()
    for name, text in describe(tally, titles):
        console.print(f"{one_line(name):<12}{one_line(text)}", markup=False, soft_wrap=True)
