"""Choose the special tokens that stay in the texts of completions, for the reward, the samples and the pages.

auto keeps those that the chat template writes or the reward looks for, such as `<think>`. A token that ends a
completion never stays.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Mode = Literal["auto", "strip", "keep"]


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The rule for special tokens in the texts of completions."""

    mode: Mode = "strip"
    strings: tuple[str, ...] = ()
    """The strings that the reward looks for: patterns, keywords, rubrics, the text of a function's file."""

    def select(
        self, tokenizer: PreTrainedTokenizerBase, never: Collection[int], *, use_chat_template: bool
    ) -> set[int]:
        """Select the special tokens, by id, that stay in texts; those of `never` and padding do not."""
        if self.mode == "strip":
            return set()
        template = str(tokenizer.chat_template or "") if use_chat_template else ""
        return {
            number
            for token, number in special_ids(tokenizer).items()
            if number not in never
            and number != tokenizer.pad_token_id
            and (self.mode == "keep" or token in template or is_named(token, self.strings))
        }


NONE_KEPT: Final = SpecialTokens()


def special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The special tokens, text -> id."""
    return {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special}


def is_named(token: str, strings: Iterable[str]) -> bool:
    """Whether one of the strings contains the token, as it is or in a regular expression: `</?think>`."""
    word = re.escape(re.sub(r"^\W+|\W+$", "", token))
    loose = None
    if word and not token[0].isalnum():
        first = re.escape(token[0])
        loose = re.compile(rf"{first}[^{first}]*(?<!\w){word}(?!\w)")
    return any(token in text or bool(loose and loose.search(text.replace("\\", ""))) for text in strings)
