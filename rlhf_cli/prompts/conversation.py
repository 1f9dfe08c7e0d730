"""A conversation with a model: its turns, as the prompt of the next answer and as rows to train on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rlhf_cli.types import Message, PromptRow


@dataclass(slots=True)
class Conversation:
    """The turns so far. Without a chat template they are one text, which the model goes on with."""

    use_chat_template: bool
    system: str | None = None
    """The system prompt; without a chat template it is the beginning of the text."""
    turns: list[tuple[str, str]] = field(default_factory=list)
    """Each turn of the user, and its answer."""

    def ask(self, text: str) -> PromptRow:
        """The prompt of the next answer, to the user's `text`; the conversation stays as it is."""
        return PromptRow(self._prompt(self.turns, text), {}, f"turn {len(self.turns) + 1}")

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield for every turn of the user the row of a prompt file: the conversation up to that turn."""
        for number, (text, _) in enumerate(self.turns):
            yield {"prompt": PromptRow(self._prompt(self.turns[:number], text), {}, "").plain}

    def _prompt(self, turns: list[tuple[str, str]], text: str) -> str | tuple[Message, ...]:
        if not self.use_chat_template:
            return "\n".join([*filter(None, [self.system]), *(asked + answer for asked, answer in turns), text])
        messages = [Message("system", self.system)] if self.system else []
        for asked, answer in turns:
            messages += [Message("user", asked), Message("assistant", answer)]
        return (*messages, Message("user", text))
