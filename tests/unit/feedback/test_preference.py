"""feedback.preference: the formats of TRL, and ours."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.feedback.preference import Row, read_row

USER = {"role": "user", "content": "Hi"}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ({"prompt": "p", "a": "x", "b": "y"}, Row("p", "x", "y", None)),
        ({"prompt": "p", "a": "x", "b": "y", "rewards": [1, -0.5]}, Row("p", "x", "y", (1.0, -0.5))),
        ({"prompt": "p", "chosen": "x", "rejected": "y", "other": 3}, Row("p", "x", "y", None)),
        ({"prompt": [USER], "chosen": [said("x")], "rejected": [said("y")]}, Row("Hi", "x", "y", None)),
        ({"chosen": [USER, said("x")], "rejected": [USER, said("y")]}, Row("Hi", "x", "y", None)),
        (
            {"prompt": [USER, said("What?"), USER], "a": "x", "b": "y"},
            Row(
                "user: Hi\n\nassistant: What?\n\nuser: Hi",
                "x",
                "y",
                None,
                turns=(("user", "Hi"), ("assistant", "What?"), ("user", "Hi")),
            ),
        ),
        ({"chosen": "The sky is blue.", "rejected": "The sky is black."}, Row("The sky is", " blue.", " black.", None)),
        ({"chosen": "All the same", "rejected": "All the same"}, Row("All the same", "", "", None)),
    ],
)
def test_the_formats(columns: dict[str, Any], row: Row) -> None:
    assert read_row(columns, "f:1") == row


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"prompt": "p", "chosen": "x"}, "neither a and b nor chosen and rejected; its columns: prompt, chosen"),
        (
            {"chosen": "Left", "rejected": "Right"},
            "no prompt, and chosen and rejected begin with nothing that both have",
        ),
        ({"chosen": [USER], "rejected": [said("y")]}, "no prompt, and chosen and rejected begin with nothing"),
        ({"chosen": "x", "rejected": [said("y")]}, "no prompt, and"),
        ({"prompt": 3, "a": "x", "b": "y"}, "prompt is a number"),
        ({"prompt": "p", "a": "x", "b": None}, "b is null"),
        ({"prompt": "p", "a": "x", "b": [{"role": "user"}]}, "b has a chat message without text for 'content'"),
        ({"prompt": "p", "a": "x", "b": "y", "rewards": [1]}, "rewards is not two finite numbers"),
        ({"prompt": "p", "a": "x", "b": "y", "rewards": [1, float("inf")]}, "rewards is not two finite numbers"),
        ({"prompt": "p", "a": "x", "b": "y", "rewards": [10**400, 1]}, "rewards is not two finite numbers"),
        ({"prompt": "p", "a": "x", "b": "y", "rewards": [True, 1]}, "rewards is not two finite numbers"),
    ],
)
def test_a_row_that_is_no_pair_is_named(columns: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError) as caught:
        read_row(columns, "f:1")
    assert caught.value.what.startswith(what)
    assert (caught.value.where, caught.value.exit_code) == ("f:1", 3)
