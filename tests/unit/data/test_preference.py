"""data.preference: TRL's formats, shares and margins, and what is no preference."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_cli.data.conversion import to_prompt_row
from rlhf_cli.data.preference import Lesson, read_preference
from rlhf_cli.data.source import RawRow
from rlhf_cli.errors import UserError
from rlhf_cli.types import Message
from tests.unit.support import source_of

USER = {"role": "user", "content": "Hi"}
ASKED = (Message("user", "Hi"),)


def said(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def read(columns: dict[str, Any], **settings: Any) -> tuple[Any, Lesson]:
    row = to_prompt_row(RawRow(columns, "f:1"), source_of(**settings))
    return row.prompt, read_preference(row)


@pytest.mark.parametrize(
    ("columns", "prompt", "chosen", "rejected"),
    [
        ({"prompt": "p", "chosen": "x", "rejected": "y"}, "p", "x", "y"),
        ({"prompt": [USER], "chosen": [said("x")], "rejected": [said("y")]}, ASKED, "x", "y"),
        ({"prompt": [USER], "chosen": "x", "rejected": "y"}, ASKED, "x", "y"),
        ({"chosen": "The sky is blue.", "rejected": "The sky is black."}, "The sky is", " blue.", " black."),
        ({"chosen": "Q: 1?\n\nA: Yes", "rejected": "Q: 1?\n\nA: No"}, "Q: 1?\n\nA:", " Yes", " No"),
        ({"chosen": "Q\n\nYes", "rejected": "Q\n\nNo", "prompt": None}, "Q", "\n\nYes", "\n\nNo"),
        ({"chosen": "The sky is", "rejected": "The sky"}, "The", " sky is", " sky"),
        ({"chosen": [USER, said("x")], "rejected": [USER, said("y")]}, ASKED, "x", "y"),
        # a conversation that repeats the prompt
        ({"prompt": "Hi", "chosen": [USER, said("x")], "rejected": [USER, said("y")]}, "Hi", "x", "y"),
        ({"messages": [USER, said("x")], "chosen": [USER, said("x")], "rejected": [said("y")]}, ASKED, "x", "y"),
        ({"prompt": "p", "chosen": [said([{"type": "text", "text": "x"}])], "rejected": "y"}, "p", "x", "y"),
    ],
)
def test_the_formats(columns: dict[str, Any], prompt: Any, chosen: str, rejected: str) -> None:
    assert read(columns) == (prompt, Lesson((chosen, rejected), 1.0, 0.0))


def test_an_implicit_prompt_is_explicit_for_a_template_and_a_system_prompt() -> None:
    implicit = {"chosen": "Sky blue", "rejected": "Sky black"}
    system = (Message("system", "Be kind."), Message("user", "Sky"))
    assert read(implicit, template="<{prompt}>")[0] == "<Sky>"
    assert read(implicit, system="Be kind.") == (system, Lesson((" blue", " black"), 1.0, 0.0))
    chats = {"chosen": [USER, said("x")], "rejected": [USER, said("y")], "prompt": "Hi"}
    assert read(chats, system="Be kind.")[1] == Lesson(("x", "y"), 1.0, 0.0)


def test_texts_stay_whole_where_the_prompt_is_another_column() -> None:
    columns = {"question": "Sky?", "chosen": "It is blue", "rejected": "It is black"}
    for settings in ({"prompt": "question"}, {"template": "{question}"}):
        assert read(columns, **settings) == ("Sky?", Lesson(("It is blue", "It is black"), 1.0, 0.0))


def test_a_share_and_a_margin_may_be_text_as_in_a_csv_file() -> None:
    columns = {"prompt": "p", "chosen": "x", "rejected": "y"}
    assert read({**columns, "share": 0.25, "margin": 2})[1] == Lesson(("x", "y"), 0.25, 2.0)
    assert read({**columns, "share": "0.75", "margin": ""})[1] == Lesson(("x", "y"), 0.75, 0.0)
    assert read({**columns, "share": None, "margin": None})[1] == Lesson(("x", "y"), 1.0, 0.0)
    assert read({"prompt": "p", "chosen": "x", "rejected": "x", "share": 0.5})[1].share == 0.5


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (
            {"chosen": "x", "rejected": "x"},
            'chosen and rejected are the same (f:1); fix: remove the row, or call it a tie: "share": 0.5',
        ),
        ({"chosen": " \n"}, "chosen is empty (f:1); fix: remove the row or write a text"),
        ({"rejected": [said("")]}, "rejected is empty (f:1); fix: remove the row or write a text"),
        ({"chosen": 3}, "chosen is a number (f:1); fix: give text or a list of chat messages"),
        (
            {"chosen": [USER, said("x")]},
            "chosen has other messages behind the prompt than the assistant's one: user, assistant (f:1); "
            "fix: give the assistant's last message alone",
        ),
        (
            {"chosen": []},
            "chosen has other messages behind the prompt than the assistant's one: none (f:1); "
            "fix: give the assistant's last message alone",
        ),
        (
            {"chosen": [{**said("x"), "tool_calls": [1]}]},
            "chosen has keys besides role and content (f:1); fix: give text, which is all that is read",
        ),
        (
            {"chosen": [{"role": "assistant"}]},
            "a chat message without text for 'role' and 'content' (f:1); "
            'fix: write {"role": "user", "content": "..."}',
        ),
        ({"share": 1.5}, "share is 1.5 (f:1); fix: give the share of votes for the chosen text, from 0 to 1"),
        ({"share": float("nan")}, "share is nan (f:1); fix: give the share of votes for the chosen text, from 0 to 1"),
        ({"share": True}, "share is true or false (f:1); fix: give a number, or leave it out"),
        ({"share": "most"}, "share is text (f:1); fix: give a number, or leave it out"),
        ({"margin": -1}, "margin is -1 (f:1); fix: give a number from 0 to 1,000,000, or leave it out"),
        ({"margin": 1e308}, "margin is 1e+308 (f:1); fix: give a number from 0 to 1,000,000, or leave it out"),
        ({"margin": "inf"}, "margin is inf (f:1); fix: give a number from 0 to 1,000,000, or leave it out"),
        ({"margin": 10**400}, "margin is inf (f:1); fix: give a number from 0 to 1,000,000, or leave it out"),
    ],
)
def test_a_row_that_is_no_preference_is_named(columns: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        read({"prompt": "p", "chosen": "x", "rejected": "y", **columns})
    assert (caught.value.line(), caught.value.exit_code) == (line, 3)


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (
            {"prompt": "p", "chosen": "x"},
            "no column 'rejected'; columns: chosen (f:1); fix: name the column with the completion",
        ),
        (
            {"prompt": "p", "a": "x", "b": "y"},
            "no column 'chosen'; columns: a, b (f:1); "
            "fix: for the votes on pairs, as rows to train on: rlhf label PAIRS.jsonl --export ROWS.jsonl",
        ),
        (
            {"rater": "me", "pair": "0", "vote": "a"},
            "no column 'prompt'; columns: rater, pair, vote (f:1); "
            "fix: for the votes on pairs, as rows to train on: rlhf label PAIRS.jsonl --export ROWS.jsonl",
        ),
        (
            {"chosen": "Left", "rejected": "Right"},
            "no prompt, and chosen and rejected begin with nothing that both have (f:1); fix: add a column prompt",
        ),
        (
            {"chosen": [USER], "rejected": "y"},
            "no prompt, and chosen and rejected begin with nothing that both have (f:1); fix: add a column prompt",
        ),
        (
            {"chosen": "Yes", "rejected": "Yet"},  # letters are no words
            "no prompt, and chosen and rejected begin with nothing that both have (f:1); fix: add a column prompt",
        ),
        ({"chosen": None, "rejected": "y"}, "chosen is null (f:1); fix: give text or a list of chat messages"),
        ({"chosen": "x", "rejected": None}, "rejected is null (f:1); fix: give text or a list of chat messages"),
    ],
)
def test_a_row_without_a_prompt_or_a_completion_is_named(columns: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        read(columns)
    assert (caught.value.line(), caught.value.exit_code) == (line, 3)
