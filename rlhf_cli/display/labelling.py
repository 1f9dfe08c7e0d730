"""Ask for votes on a terminal, by keys, or line by line where stdin is a pipe; questions go to stderr."""

from collections.abc import Callable, Iterable
from typing import Final

from rich.columns import Columns
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from rlhf_cli.display.console import ResultConsole, StoppingConsole
from rlhf_cli.display.typed import Typed
from rlhf_cli.feedback.desk import Desk
from rlhf_cli.feedback.readable import one_line, readable
from rlhf_cli.feedback.session import Question
from rlhf_cli.feedback.votes import Choice

KEYS: Final = "1 first  2 second  t tie  b both bad  s skip  u undo  n note  q leave"
CHOICES: Final[dict[str, Choice]] = {"t": "tie", "b": "both_bad", "s": "skip"}
WAIT_S: Final = 1.0
"""Seconds between two looks for new pairs."""
SIDE_BY_SIDE: Final = 100
"""Width of a terminal on which two texts stand beside each other."""


def label(desk: Desk, shown: Callable[[], str] | None) -> None:
    """Ask until every pair has a vote or the rater leaves; each vote is on disk before the next question.

    Where more pairs may come, wait for them. `shown` gives the present win rate, for a rater who wants to see it.
    """
    console, note, asked = StoppingConsole(stderr=True), "", False
    typed = Typed(console)
    question = desk.question() or _wait(desk, typed, console)
    while question is not None:
        if not asked:
            _ask(question, console, shown)
            asked = True
        key, said = typed.read()
        if key == "q":
            break
        if key == "u":
            done = desk.undo()
            console.print("taken back" if done else "nothing to take back", style="dim" if done else "yellow")
        elif key == "n":
            note = said
            console.print(f"note: {one_line(note)}" if note else "no note")
            continue
        elif key not in ("1", "2", *CHOICES):
            console.print(KEYS)
            continue
        elif desk.is_open(question):
            sides: dict[str, Choice] = {"1": question.left, "2": question.right}
            desk.answer(question, (sides | CHOICES)[key], note)
            console.print("saved", style="dim")
        else:
            console.print("this pair has a vote of yours from another window, which stays", style="yellow")
        note, asked = "", False
        question = desk.question() or _wait(desk, typed, console)
    console.print()


def _wait(desk: Desk, typed: Typed, console: Console) -> Question | None:
    """The first question that comes; None where none will, or the rater leaves."""
    if (why := desk.waiting()) is not None:
        console.print(f"{why}; q leaves", style="dim", soft_wrap=True)
    while desk.waiting() is not None:
        key = typed.wait(WAIT_S)
        if key == "q":
            return None
        if key == "u" and desk.undo():
            console.print("taken back", style="dim")
        if (question := desk.question()) is not None:
            return question
    return desk.question()  # what the run left at its end


def _ask(question: Question, console: Console, shown: Callable[[], str] | None) -> None:
    rate = f"  {shown()}" if shown else ""
    console.rule(Text(f"pair {question.number} of {question.of}{rate}"), align="left")
    console.print(Text(readable(question.pair.prompt), style="cyan"))
    texts = question.pair.text
    half = (console.width - 2) // 2 if console.width >= SIDE_BY_SIDE else None
    panels = [
        Panel(Text(readable(texts[side]) or "(empty)"), title=name, title_align="left", width=half)
        for name, side in (("1", question.left), ("2", question.right))
    ]
    console.print(Columns(panels, padding=(0, 1)) if half else Group(*panels))
    console.print(KEYS, style="dim")


def show_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Print what the votes say, on stdout: lines of a name and a text."""
    console = ResultConsole()
    for name, text in lines:
        console.print(f"{one_line(name):<11} {one_line(text)}", soft_wrap=True)
