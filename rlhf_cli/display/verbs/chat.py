"""The terminal of `rlhf chat`: turns that a person types, and answers that grow token by token."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from rlhf_cli.errors import visible

PROMPT: Final = "> "


def type_turns() -> Iterator[str]:
    """Yield the lines that a person types, until Ctrl-D; Ctrl-C drops the line."""
    with suppress(ImportError):
        import readline  # noqa: F401 - input() then edits the line, and remembers those before
    while True:
        try:
            if sys.stdout.isatty():
                line = input(PROMPT)
            else:  # the answers go to a file
                sys.stderr.write(PROMPT)
                sys.stderr.flush()
                line = input()
        except EOFError:
            sys.stderr.write("\n")
            return
        except KeyboardInterrupt:
            sys.stderr.write("\nCtrl-D or /quit ends the chat\n")
            continue
        yield line


class Answer:
    """An answer on stdout: as it grows on a terminal, at its end elsewhere."""

    def __init__(self, label: str = "", *, is_shown: bool = True) -> None:
        self.text = ""
        """The answer so far."""
        self._label, self._shown = label, ""
        self._is_shown, self._live = is_shown, sys.stdout.isatty()
        if self._live:
            self._write(label)

    def grow(self, text: str) -> None:
        """Show what `text` adds, except for the bytes of a character that is not complete yet."""
        self.text = text.rstrip("\N{REPLACEMENT CHARACTER}")
        # some tokenizers take a space back before the next token: the end shows that text
        if self._live and self.text.startswith(self._shown):
            self._write(visible(self.text[len(self._shown) :]))
            self._shown = self.text

    def end(self, text: str) -> None:
        """Show the rest of the answer, which is `text`."""
        if not self._live:
            self._write(f"{self._label}{text}\n")
        elif text.startswith(self._shown):
            self._write(f"{visible(text[len(self._shown) :])}\n")
        else:
            self._write(f"\n{self._label}{visible(text)}\n")

    def _write(self, text: str) -> None:
        if self._is_shown:
            sys.stdout.write(text)
            sys.stdout.flush()
