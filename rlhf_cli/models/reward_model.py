"""A sequence classification model that scores texts; runs in the process of `reward=model`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rlhf_cli.models.encoder import TEMPLATE_CHARACTERS, TEMPLATE_MIB, TEMPLATE_SECONDS
from rlhf_cli.models.limits import LimitExceeded, limit
from rlhf_cli.models.loading import check_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def make_score(
    path: str,
    *,
    revision: str | None,
    label: int | str | None,
    activation: str,
    reads: str,
    max_tokens: int,
    batch_size: int,
    device: str,
    dtype: str,
) -> Callable[..., list[float]]:
    """Make a function that scores completions with the model.

    Completions of the same length go through it together, and nothing is padded: a score differs from that of the
    completion alone by rounding at most. Raises OSError and ValueError for a model that cannot be loaded or used.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    check_tokenizer(path, revision)
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    whole = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    kind = whole.get(dtype) or (torch.bfloat16 if place.type == "cuda" else torch.float32)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, revision=revision)
    model: PreTrainedModel
    model, report = AutoModelForSequenceClassification.from_pretrained(
        path, revision=revision, dtype=kind, use_safetensors=True, output_loading_info=True
    )
    if lacking := sorted(report["missing_keys"]):  # transformers makes up what a checkpoint lacks, at random
        raise ValueError(f"is no reward model: its checkpoint has no {', '.join(lacking[:3])}")
    model.to(place).eval()
    column = _column(label, model)
    encode = _encoder(reads, tokenizer, min(max_tokens, _context(model, max_tokens)))

    @torch.no_grad()
    def logits(rows: Sequence[Sequence[int]], types: Sequence[Sequence[int]]) -> Tensor:
        tokens = torch.tensor(rows, device=place)
        # decoders take the last token that is not padding for the text's: none is, whatever it is
        model.config.pad_token_id = next(i for i in range(tokens.numel() + 1) if not bool((tokens == i).any()))
        more = {"token_type_ids": torch.tensor(types, device=place)} if types[0] else {}
        found: Tensor = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **more).logits
        return found.double().cpu()

    def score(prompts: Sequence[Any], completions: Sequence[Any]) -> list[float]:
        encoded = [encode(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
        scores = [0.0] * len(encoded)
        for rows in _alike([len(tokens) for tokens, _ in encoded], batch_size):
            found = logits([encoded[row][0] for row in rows], [encoded[row][1] for row in rows])
            if activation == "sigmoid":
                found = found.sigmoid()
            elif activation == "softmax":
                found = found.softmax(1)
            for row, value in zip(rows, found[:, column].tolist(), strict=True):
                scores[row] = value
        return scores

    return score


def _alike(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """The numbers of rows of the same length, at most so many at a time."""
    by_length: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        by_length.setdefault(length, []).append(row)
    for rows in by_length.values():
        for start in range(0, len(rows), most):
            yield rows[start : start + most]


def _column(label: int | str | None, model: PreTrainedModel) -> int:
    names: dict[int, str] = model.config.id2label
    known = ", ".join(f"{number} ({name})" for number, name in names.items())
    if label is None:
        if len(names) > 1:
            raise ValueError(f"the model has several labels, and reward.label says which is the score: {known}")
        return 0
    numbers = [number for number, name in names.items() if label in (number, name)]
    if not numbers:
        raise ValueError(f"the model has no label {label}; it has {known}")
    return int(numbers[0])


def _context(model: PreTrainedModel, unknown: int) -> int:
    return int(getattr(model.config, "max_position_embeddings", None) or unknown)


def _encoder(
    reads: str, tokenizer: PreTrainedTokenizerBase, limit: int
) -> Callable[[Any, Any], tuple[list[int], list[int]]]:
    """From a prompt and a completion to token ids and their segments (empty where the model has none)."""
    if reads == "auto":
        reads = "chat" if tokenizer.chat_template else "pair" if tokenizer.sep_token else "text"
    if reads == "chat" and not tokenizer.chat_template:
        raise ValueError("the model has no chat template: reward.reads=pair, text or completion")
    tokenizer.truncation_side = "left"

    def encode(prompt: Any, completion: Any) -> tuple[list[int], list[int]]:
        answer = completion if isinstance(completion, str) else completion[-1]["content"]
        if reads == "chat":
            turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
            text = _rendered(tokenizer, [*turns, {"role": "assistant", "content": answer}])
            found = tokenizer(text, add_special_tokens=False, truncation=True, max_length=limit)
        else:
            asked = prompt if isinstance(prompt, str) else "\n".join(turn["content"] for turn in prompt)
            texts = {"pair": (asked, answer), "text": (asked + answer,), "completion": (answer,)}[reads]
            found = tokenizer(*texts, truncation=True, max_length=limit)
        if not found["input_ids"]:
            raise ValueError("a completion without a token cannot be scored")
        return list(found["input_ids"]), list(found.get("token_type_ids", ()))

    return encode


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: Sequence[dict[str, str]]) -> str:
    """The conversation by the model's template, which a stranger wrote: within bounds."""
    try:
        with limit(TEMPLATE_SECONDS, TEMPLATE_MIB):
            text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except LimitExceeded as error:
        raise ValueError(f"the model's chat template takes {error}") from error
    if len(text) > TEMPLATE_CHARACTERS:
        raise ValueError(f"the model's chat template makes {len(text)} characters of a conversation")
    return text
