"""A reward model: a sequence classification model that scores completions, in the process of `reward=model`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from rlhf_cli.models.chat import render
from rlhf_cli.models.files import check_files, check_types
from rlhf_cli.models.fingerprint import text_fingerprint, weights_fingerprint
from rlhf_cli.models.libraries import silence_transformers
from rlhf_cli.models.loading import SAFE_LOADING, check_weights, load_config
from rlhf_cli.models.location import reward_model_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Encode = Callable[[Any, Any], tuple[list[int], list[int]]]
"""A function of a prompt and a completion: token ids, and their segments (empty where the model has none)."""

READS: Final = "rlhf_reads"
"""Key of config.json: what a model that was trained here reads, as the setting `reads` of `reward=model`."""


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

    A batch has only completions of the same length, so nothing is padded: a score differs from that of the completion
    alone by rounding at most. Raises OSError, ValueError and UserError for a model that cannot be loaded or used.
    """
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    model, tokenizer = _load(path, revision, place, dtype)
    column = _find_column(label, model)
    context = int(getattr(model.config, "max_position_embeddings", None) or max_tokens)
    trained_on = getattr(model.config, READS, "auto")
    encode = make_encoder(trained_on if reads == "auto" else reads, tokenizer, min(max_tokens, context))
    activate: Callable[[Tensor], Tensor] = {
        "none": lambda x: x,
        "sigmoid": lambda x: x.sigmoid(),
        "softmax": lambda x: x.softmax(1),
    }[activation]

    @torch.no_grad()
    def logits(rows: Sequence[Sequence[int]], segments: Sequence[Sequence[int]]) -> Tensor:
        tokens = torch.tensor(rows, device=place)
        # Decoders score the last token that is not padding, so the padding token must not occur in the texts.
        model.config.pad_token_id = next(i for i in range(tokens.numel() + 1) if not bool((tokens == i).any()))
        more = {"token_type_ids": torch.tensor(segments, device=place)} if segments[0] else {}
        output: Tensor = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **more).logits
        return output.double().cpu()

    def score(prompts: Sequence[Any], completions: Sequence[Any]) -> list[float]:
        encoded = [encode(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]
        scores = [0.0] * len(encoded)
        for rows in _batch_by_length([len(tokens) for tokens, _ in encoded], batch_size):
            values = activate(logits([encoded[row][0] for row in rows], [encoded[row][1] for row in rows]))
            for row, value in zip(rows, values[:, column].tolist(), strict=True):
                scores[row] = value
        return scores

    text = text_fingerprint(tokenizer, (), use_chat_template=bool(tokenizer.chat_template))
    vars(score)["sha256"] = f"{weights_fingerprint(model.named_parameters())}-{text}"  # worker.py passes it on
    return score


def _load(
    path: str, revision: str | None, place: torch.device, dtype: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model, on its device, and its tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    silence_transformers()
    path = reward_model_path(path, "reward.path")
    check_files(path, revision, "reward.path")
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, revision=revision)
    model: PreTrainedModel
    model, report = AutoModelForSequenceClassification.from_pretrained(
        path,
        config=load_config(path, revision),
        revision=revision,
        dtype=dtypes.get(dtype) or (torch.bfloat16 if place.type == "cuda" else torch.float32),
        **SAFE_LOADING,
    )
    check_types(path, revision, "reward.path")
    for note in check_weights(report, path, len(model.state_dict()), "reward.path"):
        print(note)  # noqa: T201 - reward.log has what this process prints
    return model.to(place).eval(), tokenizer


def _batch_by_length(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Yield batches of at most `most` rows of the same length, as row numbers."""
    by_length: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        by_length.setdefault(length, []).append(row)
    for rows in by_length.values():
        for start in range(0, len(rows), most):
            yield rows[start : start + most]


def _find_column(label: int | str | None, model: PreTrainedModel) -> int:
    """Find the column of the logits that is the score; raises ValueError where `label` does not name one."""
    names: dict[int, str] = model.config.id2label
    listed = ", ".join(f"{number} ({name})" for number, name in names.items())
    if label is None:
        if len(names) > 1:
            raise ValueError(f"the model has several labels, and reward.label says which is the score: {listed}")
        return 0
    numbers = [number for number, name in names.items() if label in (number, name)]
    if not numbers:
        raise ValueError(f"the model has no label {label}; it has {listed}")
    return int(numbers[0])


def make_encoder(reads: str, tokenizer: PreTrainedTokenizerBase, limit: int) -> Encode:
    """Make the function that encodes what a reward model reads; a text loses its beginning beyond `limit` tokens.

    A prompt is a text or a list of chat messages, as `reward=model` gets it. Training reads the same tokens, so that
    the scores are the same.
    """
    if reads == "auto":
        reads = "chat" if tokenizer.chat_template else "pair" if tokenizer.sep_token else "text"
    if reads == "chat" and not tokenizer.chat_template:
        raise ValueError("the model has no chat template: let it read text or completion")
    tokenizer.truncation_side = "left"

    def encode(prompt: Any, completion: Any) -> tuple[list[int], list[int]]:
        answer = completion if isinstance(completion, str) else completion[-1]["content"]
        if reads == "chat":
            turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
            text = render(tokenizer, [*turns, {"role": "assistant", "content": answer}], prompt=False)
            encoding = tokenizer(text, add_special_tokens=False, truncation=True, max_length=limit)
        else:
            question = prompt if isinstance(prompt, str) else "\n".join(turn["content"] for turn in prompt)
            texts = {"pair": (question, answer), "text": (question + answer,), "completion": (answer,)}[reads]
            encoding = tokenizer(*texts, truncation=True, max_length=limit)
        if not encoding["input_ids"]:
            raise ValueError("a completion without a token cannot be scored")
        return list(encoding["input_ids"]), list(encoding.get("token_type_ids", ()))

    return encode
