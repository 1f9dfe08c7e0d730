"""The one line of an error."""

from __future__ import annotations

import pytest

from rlhf_cli.errors import EXIT_DATA, EXIT_USAGE, Stopped, UserError, first_line


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({}, "what"),
        ({"where": "here"}, "what (here)"),
        ({"fix": "do this"}, "what; fix: do this"),
        ({"where": "here", "fix": "do this"}, "what (here); fix: do this"),
    ],
)
def test_the_line_says_what_where_and_how_to_mend_it(parts: dict[str, str], line: str) -> None:
    error = UserError("what", **parts)
    assert error.line() == line
    assert str(error) == line


def test_the_exit_code_is_usage_unless_said_otherwise() -> None:
    assert UserError("x").exit_code == EXIT_USAGE == 2
    assert UserError("x", exit_code=EXIT_DATA).exit_code == 3


def test_stopping_is_not_an_exception_that_a_reward_could_swallow() -> None:
    assert not issubclass(Stopped, Exception)
    assert Stopped("Ctrl-C").reason == "Ctrl-C"


def test_a_strangers_text_does_not_drive_the_terminal() -> None:
    assert UserError("column \x1b]0;title\x07").line() == "column \N{MIDDLE DOT}]0;title\N{MIDDLE DOT}"


def test_a_folder_whose_name_holds_a_line_end_leaves_the_error_one_line() -> None:
    assert UserError("no such folder", where="a\nb", fix="x").line() == "no such folder (a\N{MIDDLE DOT}b); fix: x"


@pytest.mark.parametrize(("message", "line"), [("\n it is off \nsecond", "it is off "), ("", "ValueError")])
def test_the_first_line_of_a_message_or_the_type(message: str, line: str) -> None:
    assert first_line(ValueError(message)) == line
