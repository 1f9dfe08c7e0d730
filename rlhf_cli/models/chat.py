"""Render chats as text by the model's template.

A template is a program of the model's author: it runs within limits, and its text is checked for omissions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from functools import cache, partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, Self

from rlhf_cli.errors import UserError, bad_data, first_line
from rlhf_cli.models.limits import LimitExceeded, limit
from rlhf_cli.models.specials import special_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS: Final = 5.0
"""Time limit of the template for one prompt; the first prompt includes compiling it."""
MIB: Final = 512
"""Memory limit of the template for one prompt."""
CHARACTERS: Final = 1_000_000
"""Characters of the longest rendered prompt."""
SHORT: Final = 8
"""Characters of a message that are unlikely to be in the rest of a prompt by chance."""
_PROBE: Final = "\N{OBJECT REPLACEMENT CHARACTER}"
"""A message that no template treats in a special way."""

NOW: Final = datetime(2024, 7, 26)
"""The time that a template which asks for it gets, so that a run repeats and resumes on another day."""
_CHOOSES: Final = re.compile(r"\|\s*random\b|['\"]random['\"]")

Turn = dict[str, Any]
"""A message as transformers takes it: role, content and perhaps more keys."""


class TemplateError(ValueError):
    """The template refuses the chat, omits a part of it, or exceeds a limit; the message says which."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the model's chat template {what}")


def render(tokenizer: PreTrainedTokenizerBase, chat: Sequence[Turn], tools: Any = None, *, prompt: bool = True) -> str:
    """Render the chat by the model's template, in jinja's sandbox; raises TemplateError.

    A `prompt` asks for the assistant's turn. A chat that ends with a turn of the assistant is left open for the model.
    """
    if _CHOOSES.search(str(tokenizer.chat_template)):
        raise TemplateError("chooses at random, so that no run would repeat")
    begun = prompt and chat[-1]["role"] == "assistant"
    how = {"add_generation_prompt": prompt and not begun, "continue_final_message": begun}
    _stop_clock()
    try:
        with limit(SECONDS, MIB):
            text = str(tokenizer.apply_chat_template(list(chat), tools, tokenize=False, **how))
        text.encode()
    except LimitExceeded as error:
        raise TemplateError(str(error)) from None  # a chained error would keep the template's memory alive
    except UnicodeEncodeError:
        raise TemplateError("writes half of a surrogate pair, which is no text") from None
    except Exception as error:  # jinja's own errors, and those that the template raises
        raise TemplateError(f"refuses it: {first_line(error)[:200]}") from error
    if len(text) > CHARACTERS:
        raise TemplateError(f"makes {len(text):,} characters of it, more than {CHARACTERS:,}")
    return text


@cache
def _stop_clock() -> None:
    """Let transformers' strftime_now, which templates call for today's date, always give the same one."""
    from transformers.utils import chat_template_utils

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls(NOW.year, NOW.month, NOW.day, tzinfo=tz)

    vars(chat_template_utils)["datetime"] = Stopped


def render_whole(
    tokenizer: PreTrainedTokenizerBase, chat: Sequence[Turn], tools: Any = None, *, prompt: bool = True
) -> str:
    """Render a chat as `render` does; raises TemplateError also where the template omits a message, a key, or tools."""
    write = partial(render, tokenizer, prompt=prompt)
    turns = [turn | {"content": ""} if _is_null(tokenizer, turn, chat, tools) else turn for turn in chat]
    text = write(turns, tools)
    for place, turn in enumerate(turns):
        content = (turn["content"] or "").strip()
        elsewhere = sum((other["content"] or "").count(content) for other in turns if other is not turn)
        # what is short, or stands in other turns too, may be there without this one
        if not content or (len(content) >= SHORT and text.count(content) > elsewhere):
            continue
        other = [*turns[:place], turn | {"content": f"{_PROBE}{turn['content']}{_PROBE}"}, *turns[place + 1 :]]
        # a template may write an answer without its thoughts, or a tool's result as JSON
        is_cut = turn["role"] in ("system", "user") and content not in text
        if is_cut or write(other, tools) == text:
            raise TemplateError(f"leaves out the {turn['role']}'s message")
    for key in dict.fromkeys(key for turn in turns for key in turn if key not in ("role", "content")):
        if text == write([{k: v for k, v in turn.items() if k != key} for turn in turns], tools):
            raise TemplateError(f"leaves out {key} of a message")
    if tools is not None and text == write(turns):
        raise TemplateError("leaves out the row's tools")
    return text


def _is_null(tokenizer: PreTrainedTokenizerBase, turn: Turn, chat: Sequence[Turn], tools: Any) -> bool:
    """Whether the turn has no content and the template would write None for it."""
    if turn["content"] is not None:
        return False
    written_out = [other | {"content": "None"} if other is turn else other for other in chat]
    return render(tokenizer, written_out, tools) == render(tokenizer, chat, tools)


def find_openings(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Find the special tokens that the template writes before a message; without such tokens, its text there."""
    try:
        before = render(tokenizer, [{"role": "user", "content": _PROBE}]).partition(_PROBE)[0].strip()
    except TemplateError:  # this chat does not meet its demands; the prompts may
        return ()
    special = tuple(token for token in special_ids(tokenizer) if token in before)
    return special or ((before,) if before else ())


def is_rendered(text: str, openings: tuple[str, ...], special: tuple[str, ...]) -> bool:
    """Whether a prompt is rendered already: it begins with an opening, perhaps after special tokens such as BOS."""
    text = text.lstrip()
    while openings and not text.startswith(openings):
        token = next((token for token in special if text.startswith(token)), None)
        if token is None:
            return False
        text = text.removeprefix(token).lstrip()
    return bool(openings)


def find_end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Find the id of the special token that the template writes after the assistant's turn; None without one."""
    chat = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _PROBE}]
    try:
        behind = render(tokenizer, chat, prompt=False).rpartition(_PROBE)[2]
    except TemplateError:
        return None
    places = [(behind.find(token), token) for token in special_ids(tokenizer) if token in behind]
    return int(tokenizer.convert_tokens_to_ids(min(places)[1])) if places else None


def find_header(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Find the text with which the template opens the assistant's turn, such as `<|im_start|>assistant`; else None."""
    try:
        prompt, closed, before = _render_question(tokenizer)
    except TemplateError:
        return None
    # a prompt may open the thoughts as well, and a finished turn may have closed them
    both = takewhile(lambda pair: pair[0] == pair[1], zip(prompt, before, strict=False))
    shared = "".join(letter for letter, _ in both)
    return (shared.removeprefix(closed).strip() if shared.startswith(closed) else "") or None


def holds_header(text: str, header: str, special: Iterable[str]) -> bool:
    """Whether a text has the header of a turn inside. One of plain words counts at the beginning of a line alone."""
    if any(token in header for token in special):
        return header in text
    return any(line.strip().startswith(header) for line in text.splitlines())


def opens_turn(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a prompt ends where the assistant's answer begins, and not before the special token that opens it."""
    try:
        prompt, closed, before = _render_question(tokenizer)
    except TemplateError:
        return True
    opening = before.removeprefix(prompt.rstrip())
    return prompt != closed or opening == before or not any(token in opening for token in special_ids(tokenizer))


def _render_question(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str, str]:
    """A short question as a prompt, as a finished turn, and as it stands before its answer; raises TemplateError."""
    ask = [{"role": "user", "content": "x"}]
    answered = render(tokenizer, [*ask, {"role": "assistant", "content": _PROBE}], prompt=False)
    return render(tokenizer, ask), render(tokenizer, ask, prompt=False), answered.partition(_PROBE)[0]


def as_user_error(error: TemplateError, where: str) -> UserError:
    """Turn the error into one about the prompt at `where` (exit 3)."""
    return bad_data(str(error), where, "change the prompt, or use raw text: model.prompt_format=raw")
