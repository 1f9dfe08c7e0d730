"""Prompts as the policy reads them: the tokenizer and the chat template, without the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.models.bounded import TooMuch, bounded
from rlhf_cli.models.settings import Model
from rlhf_cli.types import Message, Prompt, PromptRow

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

TEMPLATE_SECONDS: Final = 5.0
"""A template may take for one prompt; the first one includes compiling it."""
TEMPLATE_MIB: Final = 512
TEMPLATE_CHARACTERS: Final = 1_000_000
_OTHER_TEMPLATE: Final = "change the prompt, or use raw text: model.prompt_format=raw"


@dataclass(frozen=True, slots=True)
class Encoder:
    """What makes tokens of prompts."""

    tokenizer: PreTrainedTokenizerBase
    use_chat_template: bool

    def encode(self, rows: Sequence[PromptRow]) -> list[Prompt]:
        """The prompts as the policy reads them.

        Raises UserError (exit 3) for a chat that has no template to render it, for what the template makes of it, and
        for a text that the tokenizer makes nothing of.
        """
        if not rows:
            return []
        texts = [self._text(row) for row in rows]
        tokens = self.tokenizer(texts, add_special_tokens=not self.use_chat_template)["input_ids"]
        return [_prompt(*one) for one in zip(rows, texts, tokens, strict=True)]

    def end_of(self, prompt: Prompt, limit: int) -> Prompt:
        """The prompt with its last `limit` tokens alone."""
        tokens = prompt.tokens[-limit:]
        return replace(prompt, text=self.tokenizer.decode(tokens), tokens=tokens)

    def written_out(self, prompt: Prompt) -> str:
        """What the tokens say, special ones included, those that the tokenizer adds itself too."""
        text: str = self.tokenizer.decode(prompt.tokens)
        return text

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The tokens that are no text, as they are written out."""
        added = self.tokenizer.added_tokens_decoder.values()
        return tuple(token.content for token in added if token.special)

    def _text(self, row: PromptRow) -> str:
        if self.use_chat_template:
            turns = (Message("user", row.prompt),) if isinstance(row.prompt, str) else row.prompt
            return self._rendered([{"role": turn.role, "content": turn.content} for turn in turns], row.where)
        if not isinstance(row.prompt, str):
            raise UserError(
                "chat messages, but the prompts are raw text for this model",
                where=row.where,
                fix="give text, or a model with a chat template (model.prompt_format=chat)",
                exit_code=EXIT_DATA,
            )
        return row.prompt

    def _rendered(self, chat: list[dict[str, str]], where: str) -> str:
        """The chat through the model's template: a program of whoever made the model, so it runs in bounds."""

        def refused(what: str) -> UserError:
            return UserError(f"the model's chat template {what}", where=where, fix=_OTHER_TEMPLATE, exit_code=EXIT_DATA)

        try:
            with bounded(TEMPLATE_SECONDS, TEMPLATE_MIB):  # transformers renders in jinja's sandbox
                text: str = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            text.encode()
        except TooMuch as error:
            raise refused(str(error)) from None  # the chain would keep what it had made alive
        except UnicodeEncodeError:
            raise refused("writes half of a surrogate pair, which is no text") from None
        except Exception as error:  # jinja's own errors, raised by the model's template
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise refused(f"refuses it: {said}") from error
        if len(text) > TEMPLATE_CHARACTERS:
            raise refused(f"makes {len(text):,} characters of it, more than {TEMPLATE_CHARACTERS:,}")
        return text


def load_encoder(settings: Model) -> tuple[Encoder, int]:
    """The encoder of a model whose weights are not loaded, and the longest sequence that the model can read.

    Raises UserError where the model cannot be found.
    """
    if settings.kind == "tiny":
        from rlhf_cli.models.tiny import byte_tokenizer

        return Encoder(byte_tokenizer(), use_chat_template=False), settings.context
    from rlhf_cli.models.loading import load_tokenizer

    tokenizer, config = load_tokenizer(settings)
    return Encoder(tokenizer, wants_template(settings.prompt_format, tokenizer, settings.path)), context_of(config)


def context_of(config: PretrainedConfig) -> int:
    """The longest sequence that a model of this transformers config can read."""
    return getattr(config.get_text_config(), "max_position_embeddings", None) or 2**31


def wants_template(prompt_format: str, tokenizer: PreTrainedTokenizerBase, path: str) -> bool:
    """Whether prompts go through the model's chat template; raises UserError where one is demanded and missing."""
    has_template = bool(tokenizer.chat_template)
    if prompt_format == "chat" and not has_template:
        raise UserError(f"{path} has no chat template", where="model.prompt_format", fix="use auto or raw")
    return has_template and prompt_format != "raw"


def _prompt(row: PromptRow, text: str, tokens: list[int]) -> Prompt:
    if not tokens:
        raise UserError(
            "the tokenizer makes no token of the prompt",
            where=row.where,
            fix="remove it, or write what the model's tokenizer knows",
            exit_code=EXIT_DATA,
        )
    return Prompt(row, text, tuple(tokens))
