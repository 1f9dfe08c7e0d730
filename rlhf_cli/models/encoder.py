"""Encode prompts as token ids: the tokenizer and the chat template, without the weights."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from rlhf_cli.errors import UserError, bad_data, first_line
from rlhf_cli.models.chat import NOW, TemplateError, as_user_error, find_openings, is_rendered, opens_turn, render_whole
from rlhf_cli.models.settings import Model
from rlhf_cli.models.specials import special_ids
from rlhf_cli.types import Prompt, PromptRow

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

_KNOWN: Final = "remove it, or write a text that the model's tokenizer knows"


@dataclass(frozen=True, slots=True)
class Encoder:
    """The encoder of a model's prompts."""

    tokenizer: PreTrainedTokenizerBase
    use_chat_template: bool
    vocabulary: int
    """The number of tokens with an embedding; a tokenizer may know more."""

    def encode(self, rows: Sequence[PromptRow]) -> list[Prompt]:
        """Render and tokenize rows.

        Raises UserError (exit 3) for a chat without a template, a template that fails, a text without tokens, and a
        text with a token that the model does not know.
        """
        if not rows:
            return []
        begins = find_openings(self.tokenizer) if self.use_chat_template else ()
        texts = [self._text(row, begins) for row in rows]
        try:
            tokens = self.tokenizer(texts, add_special_tokens=not self.use_chat_template)["input_ids"]
        except Exception as error:  # a tokenizer without a token for what it does not know
            if len(rows) == 1:
                raise bad_data(
                    f"the tokenizer refuses the prompt: {first_line(error)}", rows[0].where, _KNOWN
                ) from error
            return [prompt for row in rows for prompt in self.encode([row])]
        return [self._prompt(*fields) for fields in zip(rows, texts, tokens, strict=True)]

    def keep_end(self, prompt: Prompt, limit: int) -> Prompt:
        """Cut the prompt to its last `limit` tokens."""
        tokens = prompt.tokens[-limit:]
        return replace(prompt, text=self.tokenizer.decode(tokens), tokens=tokens)

    def check_known(self, what: str, tokens: Collection[int], where: str) -> None:
        """Raise UserError (exit 3) for a token without an embedding; `what` holds the tokens: the prompt or a text."""
        if (highest := max(tokens)) >= self.vocabulary:
            raise bad_data(
                f"the {what}'s token {self.tokenizer.decode([highest])!r} is number {highest}, "
                f"but the model has embeddings for {self.vocabulary}",
                where,
                f"leave it out of the {what}, or give the tokenizer that the model was trained with",
            )

    def decode_all(self, prompt: Prompt) -> str:
        """The text of all tokens, including special ones and those that the tokenizer adds."""
        text: str = self.tokenizer.decode(prompt.tokens)
        return text

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The special tokens, as text."""
        return tuple(special_ids(self.tokenizer))

    def template_notes(self) -> list[str]:
        """Notes on additions of the chat template that its user may not expect."""
        if not self.use_chat_template:
            return []
        notes = []
        if "strftime_now" in str(self.tokenizer.chat_template):
            notes.append(f"the chat template writes the date: always {NOW:%d %b %Y}, so that the run repeats")
        if not opens_turn(self.tokenizer):
            notes.append("the chat template does not open the assistant's turn: the model goes on behind the user's")
        return notes

    def oddity(self, prompt: Prompt) -> str | None:
        """Name the odd treatment of a prompt, to continue "N prompts ..."; None for most prompts."""
        unknown, number = self.tokenizer.unk_token, self.tokenizer.unk_token_id
        names_own = number in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)  # as GPT-2 has it
        if unknown and not names_own and number in prompt.tokens and unknown not in prompt.text:
            return f"hold what the tokenizer does not know, and the model reads {unknown} there"
        if self.use_chat_template:
            is_whole = prompt.text == prompt.row.prompt
            return "begin as the chat template does: they are taken as rendered already" if is_whole else None
        bos, end = self.tokenizer.bos_token, self.tokenizer.eos_token
        if bos and prompt.text.startswith(bos):
            return f"begin with {bos} themselves: no second one is added"
        if end and prompt.tokens[-1] == self.tokenizer.eos_token_id and not prompt.text.endswith(end):
            return f"get {end} at their end from the tokenizer, which tells the model that the text is over"
        return None

    def _prompt(self, row: PromptRow, text: str, tokens: list[int]) -> Prompt:
        if not tokens:
            raise bad_data("the tokenizer makes no token of the prompt", row.where, _KNOWN)
        bos = self.tokenizer.bos_token_id
        if tokens[:2] == [bos, bos] and text.startswith(self.tokenizer.bos_token):
            tokens = tokens[1:]  # one from the text, one from the tokenizer
        self.check_known("prompt", tokens, row.where)
        return Prompt(row, text, tuple(tokens))

    def _text(self, row: PromptRow, begins: tuple[str, ...]) -> str:
        if not self.use_chat_template:
            if isinstance(row.prompt, str):
                return row.prompt
            raise bad_data(
                "chat messages, but the prompts are raw text for this model",
                row.where,
                "give text, or a model with a chat template (model.prompt_format=chat)",
            )
        tools = row.columns.get("tools") or None  # a list without a tool is none
        try:
            if not isinstance(row.prompt, str):
                return render_whole(self.tokenizer, [turn.as_dict() for turn in row.prompt], tools)
            if is_rendered(row.prompt, begins, self.special_tokens):
                return row.prompt
            return render_whole(self.tokenizer, [{"role": "user", "content": row.prompt}], tools)
        except TemplateError as error:
            raise as_user_error(error, row.where) from None


def load_encoder(settings: Model) -> tuple[Encoder, int]:
    """Load a model's encoder, without the weights, and the longest sequence that the model can read.

    Raises UserError where the model cannot be found.
    """
    if settings.kind == "tiny":
        from rlhf_cli.models.tiny import byte_tokenizer

        tokenizer = byte_tokenizer()
        return Encoder(tokenizer, use_chat_template=False, vocabulary=len(tokenizer)), settings.context
    from rlhf_cli.models.loading import load_tokenizer

    tokenizer, config = load_tokenizer(settings)
    use_chat_template = uses_chat_template(settings.prompt_format, tokenizer, settings.path)
    return Encoder(tokenizer, use_chat_template, config.get_text_config().vocab_size), context_length(config)


def context_length(config: PretrainedConfig) -> int:
    """The longest sequence that a policy of this transformers config can read, among others and with a cache.

    Phi's "longrope" turns every text of a batch by other angles once one is longer than the original length, and keys
    that stand in a cache keep theirs: beyond it a text would not have the probabilities that it has alone.
    """
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    original = rope["original_max_position_embeddings"] if rope.get("rope_type") == "longrope" else None
    return original or longest_text(config)


def longest_text(config: PretrainedConfig) -> int:
    """The longest text that a model of this transformers config can read alone, in tokens."""
    return getattr(config.get_text_config(), "max_position_embeddings", None) or 2**31


def uses_chat_template(prompt_format: str, tokenizer: PreTrainedTokenizerBase, path: str) -> bool:
    """Whether prompts go through the model's chat template; raises UserError where a demanded one is missing."""
    has_template = bool(tokenizer.chat_template)
    if prompt_format == "chat" and not has_template:
        raise UserError(f"{path} has no chat template", where="model.prompt_format", fix="use auto or raw")
    return has_template and prompt_format != "raw"
