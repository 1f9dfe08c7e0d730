"""From a row to token ids: completions behind a prompt, or whole texts that are scored."""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Final

from rlhf_cli.errors import UserError, bad_data
from rlhf_cli.models.chat import SHORT, TemplateError, as_user_error, find_header, holds_header
from rlhf_cli.models.policy import Policy
from rlhf_cli.models.reward_model import UNCUT, choose_reads, make_encoder
from rlhf_cli.prompts.encoding import Fit
from rlhf_cli.supervised.batches import Example
from rlhf_cli.supervised.lessons import read_lesson
from rlhf_cli.supervised.objectives import Objective
from rlhf_cli.supervised.objectives.bradley_terry import BradleyTerry
from rlhf_cli.supervised.objectives.dpo import Dpo
from rlhf_cli.supervised.objectives.sft import Sft
from rlhf_cli.types import Prompt, PromptRow

TIE: Final = 0.5
"""The share of votes of a pair without a better side."""
DROPS: Final = "the tokenizer or the chat template drops"
"""The usual reason for which texts that differ have the same tokens."""


def completions_encoder(
    objective: Sft | Dpo, policy: Policy, fit: Fit, longest: int
) -> Callable[[Sequence[PromptRow]], list[Example | None]]:
    """Make the function that encodes rows as completions behind a prompt, of at most `longest` tokens each.

    A completion ends with the model's end token. It is tokenized behind its prompt, as the two stand in one text; where
    the prompt's tokens would come out otherwise, by itself.
    """
    end = policy.end_token

    def encode(rows: Sequence[PromptRow]) -> list[Example | None]:
        prompts = fit.encode(rows)
        read = [read_lesson(row, objective) for row in rows]
        flat = [(prompt, text) for prompt, lesson in zip(prompts, read, strict=True) if prompt for text in lesson.texts]
        completions = iter(_tokenize(flat, policy))
        examples = list[Example | None]()
        for prompt, lesson in zip(prompts, read, strict=True):
            if prompt is None:
                examples.append(None)
                continue
            tokens = tuple(_closed(next(completions), end) for _ in lesson.texts)
            too_long = next((len(one) for one in tokens if len(one) > longest), None)
            if too_long is not None and not fit.drops:
                raise _too_long("completion", too_long, f"max_new_tokens={longest}", prompt.row)
            for one in tokens:
                policy.encoder.check_known("text", one, prompt.row.where)
            if too_long is None and len(set(tokens)) < len(tokens) and lesson.share != TIE:
                raise _alike(objective, prompt.row, DROPS)
            examples.append(None if too_long else Example((prompt,), tokens, lesson))
        return examples

    return encode


def texts_encoder(
    objective: BradleyTerry, policy: Policy, fit: Fit, longest: int
) -> Callable[[Sequence[PromptRow]], list[Example | None]]:
    """Make the function that encodes both texts of a pair as `reward=model` reads them.

    An example's prompt is what both token rows begin with, so that the model reads it once; where that is nothing, each
    has its first token as its own. A completion is the rest, with one more token behind the end, whose predicting state
    is scored. A text is too long beyond the longest prompt and the longest completion together.
    """
    try:  # what is too long is refused here, and not cut in silence
        whole = make_encoder(objective.reads, policy.tokenizer, UNCUT)
    except ValueError as error:
        raise UserError(str(error), where="objective.reads", fix="objective.reads=text or completion") from error
    limit = min(fit.limit + longest, policy.context - 1)

    def encode_text(row: PromptRow, text: str) -> list[int]:
        try:
            tokens, _ = whole(row.plain, text, row.columns.get("tools"))
        except TemplateError as error:
            raise as_user_error(error, row.where) from None
        except ValueError as error:
            raise bad_data(str(error), row.where, "remove the row") from error
        policy.encoder.check_known("text", tokens, row.where)
        return tokens

    def encode_row(row: PromptRow) -> Example | None:
        lesson = read_lesson(row, objective)
        both = [encode_text(row, text) for text in lesson.texts]
        if (length := max(map(len, both))) > limit:
            if fit.drops:
                return None
            if fit.data.too_long == "error":
                by_data = fit.limit == fit.data.max_prompt_tokens
                bound = "data.max_prompt_tokens and max_new_tokens" if by_data else "the model reads"
                raise _too_long("text", length, f"{bound}: {limit}", row)
            fit.cut[limit] += 1
            both = [tokens[-limit:] for tokens in both]  # as reward=model cuts them
        if both[0] == both[1] and lesson.share != TIE:
            raise _alike(objective, row, "data.too_long=truncate_left cuts off" if length > limit else DROPS)
        shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(*both, strict=False))))
        starts = [both[0][:shared]] if shared else [tokens[:1] for tokens in both]
        prompts = tuple(Prompt(row, policy.decode(start), tuple(start)) for start in starts)
        rest = tuple((*tokens[shared or 1 :], policy.pad_token) for tokens in both)
        return Example(prompts, rest, lesson)

    return lambda rows: [encode_row(row) for row in rows]


def oddity(example: Example, policy: Policy, header: str | None, *, scored: bool) -> str | None:
    """Name what is odd in a completion, to continue "N rows ..."; None for most rows.

    `header` opens the assistant's turn, where a template writes it; `scored`: the template's end belongs to the text.
    """
    if _holds_unknown(example, policy):
        unknown = policy.tokenizer.unk_token
        return f"have a completion that the tokenizer does not know in part: the model learns {unknown} there"
    ends = {token for tokens in example.completions for token in tokens[:-1] if token in policy.end_tokens}
    pasted = [repr(policy.tokenizer.decode([min(ends)]))] if ends and not scored else []
    special = policy.encoder.special_tokens
    if header and any(holds_header(text, header, special) for text in example.lesson.texts):
        pasted.append(f"the turn's header {header!r}")
    if pasted:
        so = "which the chat template writes already" if scored else "behind which the model learns to go on"
        return f"have a completion with {' and '.join(pasted)} inside, {so}"
    asked = example.prompt.row.shown.strip()
    if len(asked) >= SHORT and any(text.startswith(asked) for text in example.lesson.texts):
        return "have a completion that begins with the prompt, which the model reads already"
    return None


def written_header(objective: Objective, policy: Policy) -> str | None:
    """The text that opens the assistant's turn in what the objective reads; None where no template writes it."""
    reads_chat = (
        choose_reads(objective.reads, policy.tokenizer) == "chat"
        if isinstance(objective, BradleyTerry)
        else policy.use_chat_template
    )
    return find_header(policy.tokenizer) if reads_chat else None


def _holds_unknown(example: Example, policy: Policy) -> bool:
    unknown, number = policy.tokenizer.unk_token, policy.tokenizer.unk_token_id
    if not unknown or number in (policy.tokenizer.bos_token_id, policy.tokenizer.eos_token_id):  # as GPT-2 has it
        return False
    rows = zip(example.completions, example.lesson.texts, strict=True)
    return any(number in tokens[:-1] and unknown not in text for tokens, text in rows)


def _alike(objective: Objective, row: PromptRow, why: str) -> UserError:
    return bad_data(
        f"{' and '.join(objective.columns_read)} are the same tokens: {why} what differs",
        row.where,
        'remove the row, or call it a tie: "share": 0.5',
    )


def _tokenize(pairs: Sequence[tuple[Prompt, str]], policy: Policy) -> list[list[int]]:
    """The tokens of each text behind its prompt, without an end token."""
    if not pairs:
        return []
    tokenizer, bos = policy.tokenizer, policy.tokenizer.bos_token_id
    together = [prompt.text + text for prompt, text in pairs]
    joint = tokenizer(together, add_special_tokens=not policy.use_chat_template)["input_ids"]
    alone = tokenizer([text for _, text in pairs], add_special_tokens=False)["input_ids"]
    found = list[list[int]]()
    for (prompt, _), both, own in zip(pairs, joint, alone, strict=True):
        both = both[1:] if both[:2] == [bos, bos] and prompt.tokens[:2] != (bos, bos) else both
        length = len(prompt.tokens)
        found.append(both[length:] if tuple(both[:length]) == prompt.tokens else own)
    return found


def _closed(tokens: Sequence[int], end: int) -> tuple[int, ...]:
    """The tokens with the end token behind them, which may stand there already."""
    return tuple(tokens) if tokens and tokens[-1] == end else (*tokens, end)


def _too_long(what: str, tokens: int, limit: str, row: PromptRow) -> UserError:
    return bad_data(
        f"the {what} has {tokens} tokens, more than {limit}",
        row.where,
        "shorten it, raise the limit, or leave such rows out: data.too_long=drop",
    )
