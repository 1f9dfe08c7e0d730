"""starting: the line that a terminal shows while a verb's modules are imported, and imports without the collector."""

from __future__ import annotations

import gc
import io
import sys
from contextlib import suppress

import pytest

from rlhf_cli.starting import keep_imports, show_start


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(*argv: str, term: str | None = "xterm-256color") -> tuple[str, str]:
    """The text that a terminal has got inside the block, and at its end, which is an interruption."""
    with pytest.MonkeyPatch.context() as patch:
        terminal = Terminal()
        patch.setattr(sys, "stderr", terminal)
        patch.delenv("TERM", raising=False)
        if term:
            patch.setenv("TERM", term)
        inside = ""
        with suppress(KeyboardInterrupt), show_start("train", argv):
            inside = terminal.getvalue()
            raise KeyboardInterrupt
        return inside, terminal.getvalue()


def test_a_terminal_shows_the_line_until_the_verb_has_the_word() -> None:
    assert shown("config=tiny") == ("rlhf train starts ...", "rlhf train starts ...\r\x1b[K")


@pytest.mark.parametrize("asked", ["display=quiet", "display=json"])
def test_a_run_without_a_display_starts_in_silence(asked: str) -> None:
    assert shown("config=tiny", asked) == ("", "")


@pytest.mark.parametrize("term", ["dumb", "unknown", None])
def test_so_does_a_terminal_that_cannot_take_a_line_away(term: str | None) -> None:
    assert shown(term=term) == ("", "")


def test_and_so_does_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with show_start("train", []):
        pass
    assert capsys.readouterr() == ("", "")


def test_imports_are_kept_from_the_collector() -> None:
    frozen = gc.get_freeze_count()
    assert gc.isenabled()
    with keep_imports():
        assert not gc.isenabled()
        with keep_imports():  # import_libraries, by a verb whose module asks for it
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen


def test_after_a_failed_import_the_collector_works(no_collection: None) -> None:
    gc.enable()
    with pytest.raises(ImportError), keep_imports():
        raise ImportError
    assert gc.isenabled()
