"""prompts.conversation."""

from __future__ import annotations

from rlhf_cli.prompts.conversation import Conversation
from rlhf_cli.types import Message


def test_a_chat_holds_system_turns_and_answers() -> None:
    chat = Conversation(True, "Be brief.", [("Hi", "Hello."), ("And?", "")])
    assert chat.ask("Bye").prompt == (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello."),
        Message("user", "And?"),
        Message("assistant", ""),
        Message("user", "Bye"),
    )
    assert chat.ask("Bye").where == "turn 3"
    assert list(chat.rows()) == [
        {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
        {
            "prompt": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": "And?"},
            ]
        },
    ]


def test_without_a_template_it_is_one_text_that_goes_on() -> None:
    text = Conversation(False, None, [("Once", " upon a time.")])
    assert text.ask("Then").prompt == "Once upon a time.\nThen"
    assert list(text.rows()) == [{"prompt": "Once"}]
    assert Conversation(False, "A tale.").ask("Once").prompt == "A tale.\nOnce"
