"""What a prompt is made of, and what the reward gets besides."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rlhf_cli.data.conversion import keep_first_words, to_prompt_row
from rlhf_cli.data.messages import read_message
from rlhf_cli.data.preference import EXPORT
from rlhf_cli.data.source import RawRow
from rlhf_cli.data.template import parse_template
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.types import Message
from tests.unit.support import source_of

ASKED = {"question": "Why?", "answer": 42}
USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}


def prompt_of(columns: dict[str, Any], **settings: Any) -> tuple[Any, dict[str, Any]]:
    row = to_prompt_row(RawRow(columns, "f:1"), source_of(**settings))
    return row.prompt, dict(row.columns)


def problem_of(columns: dict[str, Any], **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        prompt_of(columns, **settings)
    assert caught.value.exit_code == EXIT_DATA == 3
    return caught.value.line()


def test_another_column_may_hold_the_prompt_and_stays_one() -> None:
    assert prompt_of(ASKED, prompt="question") == ("Why?", ASKED)


def test_a_template_makes_the_prompt_of_columns_that_stay() -> None:
    made, columns = prompt_of(ASKED, template="Q: {question} {{not {answer}}}\nA:")
    assert (made, columns) == ("Q: Why? {not 42}\nA:", ASKED)


def test_with_a_template_the_column_prompt_is_one_as_well() -> None:
    assert prompt_of({"prompt": "x"}, template="<{prompt}>") == ("<x>", {"prompt": "x"})


@pytest.mark.parametrize(
    ("count", "text", "expected"),
    [
        (None, "a b c", "a b c"),
        (1, "a b c", "a"),
        (2, " a\n  b c", " a\n  b"),
        (3, "a b c ", "a b c"),
        (4, "a b c ", "a b c"),
        (2**63 - 1, "a b c ", "a b c"),
    ],
)
def test_the_first_words_keep_the_space_between_them(count: int | None, text: str, expected: str) -> None:
    assert keep_first_words(text, count) == expected


def test_the_first_words_leave_the_whole_text_to_the_reward() -> None:
    assert prompt_of({"prompt": "a b c"}, first_words=2) == ("a b", {"prompt": "a b c"})
    made, _ = prompt_of({"prompt": "a b c", "x": "d e f"}, first_words=2, template="{x}: {prompt}")
    assert made == "d e f: a b"


def test_a_system_prompt_makes_a_chat_and_is_put_where_there_is_none() -> None:
    system = Message("system", "Be kind.")
    assert prompt_of({"prompt": "Hi"}, system="Be kind.")[0] == (system, Message("user", "Hi"))
    assert prompt_of({"prompt": [USER]}, system="Be kind.")[0] == (system, Message("user", "Hi"))
    own, brief = {"role": "system", "content": "Be brief."}, Message("system", "Be brief.")
    assert prompt_of({"prompt": [own, USER]}, system="Be kind.")[0] == (brief, Message("user", "Hi"))


def test_of_whole_conversations_the_last_answer_is_left_to_the_reward() -> None:
    for settings in ({}, {"prompt": "messages"}):
        made, columns = prompt_of({"messages": [USER, ANSWER]}, **settings)
        assert made == (Message("user", "Hi"),)
        assert columns == {"messages": [USER, ANSWER]}
    assert len(prompt_of({"messages": [USER, ANSWER, USER]})[0]) == 3
    assert len(prompt_of({"prompt": [USER, ANSWER]})[0]) == 2
    assert problem_of({"messages": [ANSWER]}).startswith("the prompt is empty (f:1)")


def test_a_turn_keeps_all_its_keys() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "weather"}], "name": None}
    made, _ = prompt_of({"prompt": [USER, call, {"role": "tool", "name": "weather", "content": "12"}]})
    assert [turn.as_dict() for turn in made] == [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [{"name": "weather"}]},
        {"role": "tool", "content": "12", "name": "weather"},
    ]
    assert len(set(made)) == 3  # hashable


def test_other_keys_of_a_turn_are_kept_as_they_are_written() -> None:
    assert read_message({"role": "user", "content": "Hi", "name": "Zoë"}, "f:1").more == '{"name": "Zoë"}'


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]
    assert prompt_of({"prompt": [{"role": "user", "content": parts}]})[0] == (Message("user", "Hi there"),)


@pytest.mark.parametrize(
    ("part", "kind"),
    [({"type": "image", "url": "x"}, "image"), ("Hi", "text"), ({"text": "Hi"}, "none"), ({"type": "text"}, "text")],
)
def test_other_parts_are_refused(part: Any, kind: str) -> None:
    assert problem_of({"prompt": [{"role": "user", "content": [part]}]}) == (
        f"a chat message with a part of type {kind} (f:1); fix: give text, which is all that is read"
    )


def test_a_turn_needs_a_content_or_other_keys() -> None:
    for turn in (
        {"role": "user", "content": None},
        {"role": "user"},
        {"content": "Hi"},
        "Hi",
        {"role": 3, "content": ""},
    ):
        assert problem_of({"prompt": [turn]}).startswith("a chat message without text for 'role' and 'content'")


@pytest.mark.parametrize(
    ("columns", "settings", "problem"),
    [
        (
            ASKED,
            {"prompt": "qestion"},
            "no column 'qestion'; columns: question, answer (f:1); fix: did you mean question?",
        ),
        ({"rater": 1, "vote": 2}, {}, f"no column 'prompt'; columns: rater, vote (f:1); fix: {EXPORT}"),
        (ASKED, {"prompt": "zzz"}, "no column 'zzz'; columns: question, answer (f:1); fix: name one of them"),
        (
            ASKED,
            {"template": "{question} {anser}"},
            "no column 'anser'; columns: question, answer (f:1); fix: did you mean answer?",
        ),
        ({"a": []}, {"template": "{a}"}, "a is a list (f:1); fix: data.template takes texts and numbers"),
        ({"a": True}, {"template": "{a}"}, "a is true or false (f:1); fix: data.template takes texts and numbers"),
        ({"a": " "}, {"template": "{a}\n"}, "the prompt is empty (f:1); fix: remove the line or write a prompt"),
        ({"prompt": [USER]}, {"first_words": 3}, "prompt is a list (f:1); fix: data.first_words cuts texts alone"),
    ],
)
def test_mistakes(columns: dict[str, Any], settings: dict[str, Any], problem: str) -> None:
    assert problem_of(columns, **settings) == problem


def test_a_template_in_pieces() -> None:
    assert parse_template("a {b c} {{d}} {e}") == (("a ", "b c"), (" {", None), ("d}", None), (" ", "e"))


@pytest.mark.parametrize(
    "template",
    ["{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{a:{b}}", "{}", "{a", "a}", "no column at all", "{a.__class__.__init__}"],
)
def test_a_template_with_anything_but_names_is_refused(template: str) -> None:
    with pytest.raises(ValidationError):
        source_of(template=template)


def test_words_that_the_template_does_not_use_cannot_be_cut() -> None:
    with pytest.raises(ValidationError, match="first_words cuts the column prompt, which the template does not have"):
        source_of(template="{question}", first_words=2)
