"""Prompts as token ids: the tokenizer and the chat template, without the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.models.limits import LimitExceeded, limit
from rlhf_cli.models.settings import Model
from rlhf_cli.types import Message, Prompt, PromptRow

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

TEMPLATE_SECONDS: Final = 5.0
"""Time limit of the template for one prompt; the first prompt includes compiling it."""
TEMPLATE_MIB: Final = 512
TEMPLATE_CHARACTERS: Final = 1_000_000
_OTHER_TEMPLATE: Final = "change the prompt, or use raw text: model.prompt_format=raw"


@dataclass(frozen=True, slots=True)
class Encoder:
    """Turn prompts into token ids."""

    tokenizer: PreTrainedTokenizerBase
    use_chat_template: bool

    def encode(self, rows: Sequence[PromptRow]) -> list[Prompt]:
        """Render and tokenize rows.

        Raises UserError (exit 3) for a chat without a template, a template that fails, and a text without tokens.
        """
        if not rows:
            return []
        texts = [self._text(row) for row in rows]
        tokens = self.tokenizer(texts, add_special_tokens=not self.use_chat_template)["input_ids"]
        if empty := next((row for row, ids in zip(rows, tokens, strict=True) if not ids), None):
            raise UserError(
                "the tokenizer makes no token of the prompt",
                where=empty.where,
                fix="remove it, or write what the model's tokenizer knows",
                exit_code=EXIT_DATA,
            )
        return [Prompt(row, text, tuple(ids)) for row, text, ids in zip(rows, texts, tokens, strict=True)]

    def keep_end(self, prompt: Prompt, limit: int) -> Prompt:
        """Cut the prompt to its last `limit` tokens."""
        tokens = prompt.tokens[-limit:]
        return replace(prompt, text=self.tokenizer.decode(tokens), tokens=tokens)

    def decode_all(self, prompt: Prompt) -> str:
        """The text of all tokens, including special ones and those that the tokenizer adds."""
        text: str = self.tokenizer.decode(prompt.tokens)
        return text

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The special tokens, as text."""
        added = self.tokenizer.added_tokens_decoder.values()
        return tuple(token.content for token in added if token.special)

    def _text(self, row: PromptRow) -> str:
        if not self.use_chat_template:
            if isinstance(row.prompt, str):
                return row.prompt
            raise UserError(
                "chat messages, but the prompts are raw text for this model",
                where=row.where,
                fix="give text, or a model with a chat template (model.prompt_format=chat)",
                exit_code=EXIT_DATA,
            )
        turns = (Message("user", row.prompt),) if isinstance(row.prompt, str) else row.prompt
        chat = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            return render_chat(self.tokenizer, chat, add_generation_prompt=True)
        except ValueError as error:
            raise UserError(str(error), where=row.where, fix=_OTHER_TEMPLATE, exit_code=EXIT_DATA) from error


def render_chat(tokenizer: PreTrainedTokenizerBase, chat: Sequence[Mapping[str, str]], **options: bool) -> str:
    """Render the chat by the model's template, within limits: it is a program of the model's author.

    Raises ValueError where the template fails, takes too much, or writes too much.
    """
    try:
        with limit(TEMPLATE_SECONDS, TEMPLATE_MIB):  # transformers renders in jinja's sandbox
            text: str = tokenizer.apply_chat_template(chat, tokenize=False, **options)
        text.encode()
    except LimitExceeded as error:
        what = str(error)
    except UnicodeEncodeError:
        what = "writes half of a surrogate pair, which is no text"
    except Exception as error:  # jinja's own errors, raised by the model's template
        what = f"refuses it: {(str(error).strip() or type(error).__name__).splitlines()[0][:200]}"
    else:
        if len(text) <= TEMPLATE_CHARACTERS:
            return text
        what = f"makes {len(text):,} characters of it, more than {TEMPLATE_CHARACTERS:,}"
    raise ValueError(f"the model's chat template {what}")  # here: a chained error would keep the template's memory


def load_encoder(settings: Model) -> tuple[Encoder, int]:
    """Load a model's encoder, without the weights, and the longest sequence that the model can read.

    Raises UserError where the model cannot be found.
    """
    if settings.kind == "tiny":
        from rlhf_cli.models.tiny import byte_tokenizer

        return Encoder(byte_tokenizer(), use_chat_template=False), settings.context
    from rlhf_cli.models.loading import load_tokenizer

    tokenizer, config = load_tokenizer(settings)
    use_chat_template = uses_chat_template(settings.prompt_format, tokenizer, settings.path)
    return Encoder(tokenizer, use_chat_template), context_length(config)


def context_length(config: PretrainedConfig) -> int:
    """The longest sequence that a model of this transformers config can read."""
    return getattr(config.get_text_config(), "max_position_embeddings", None) or 2**31


def uses_chat_template(prompt_format: str, tokenizer: PreTrainedTokenizerBase, path: str) -> bool:
    """Whether prompts go through the model's chat template; raises UserError where a demanded one is missing."""
    has_template = bool(tokenizer.chat_template)
    if prompt_format == "chat" and not has_template:
        raise UserError(f"{path} has no chat template", where="model.prompt_format", fix="use auto or raw")
    return has_template and prompt_format != "raw"
