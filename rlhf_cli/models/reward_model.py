"""A reward model: a sequence classification model that scores completions, in the process of `reward=model`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from rlhf_cli.models.chat import TemplateError, find_openings, is_rendered, render, render_whole
from rlhf_cli.models.encoder import longest_text
from rlhf_cli.models.files import check_files
from rlhf_cli.models.fingerprint import text_fingerprint, weights_fingerprint
from rlhf_cli.models.libraries import silence_transformers
from rlhf_cli.models.loading import load_weights
from rlhf_cli.models.location import reward_model_path
from rlhf_cli.models.memory import choose_device, room_for_model
from rlhf_cli.models.specials import special_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Encode = Callable[..., tuple[list[int], list[int]]]
"""A function of a prompt, a completion and the tools of its row: token ids, and their segments (empty where the model
has none)."""

UNCUT: Final = 2**30
"""A limit in tokens that no text reaches."""
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
    **process: Any,
) -> Callable[..., list[float]]:
    """Make a function that scores completions with the model; how its `process` is asked does not matter here.

    A batch has only completions of the same length, so nothing is padded: a score differs from that of the completion
    alone by rounding at most. Raises OSError, ValueError and UserError for a model that cannot be loaded or used.
    """
    place, own = choose_device(device, dtype)
    model, tokenizer = _load(path, revision, place, own or torch.float32)
    column = _find_column(label, model)
    reads = getattr(model.config, READS, "auto") if reads == "auto" else reads
    limit = min(max_tokens, _context_length(model))
    encode, watch = make_encoder(reads, tokenizer, limit), Watch(reads, tokenizer, limit)
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

    def score(prompts: Sequence[Any], completions: Sequence[Any], tools: Sequence[Any] | None = None) -> list[float]:
        texts = [*zip(prompts, completions, tools or [None] * len(prompts), strict=True)]
        encoded = [encode(*text) for text in texts]
        for text, (tokens, _) in zip(texts, encoded, strict=True):
            watch.look_at(*text, len(tokens))
        scores = [0.0] * len(encoded)
        for rows in _batch_by_length([len(tokens) for tokens, _ in encoded], batch_size):
            values = activate(logits([encoded[row][0] for row in rows], [encoded[row][1] for row in rows]))
            for row, value in zip(rows, values[:, column].tolist(), strict=True):
                scores[row] = value
        return scores

    vars(score)["notes"] = watch.notes  # worker.py passes them on
    text = text_fingerprint(tokenizer, (), use_chat_template=bool(tokenizer.chat_template))
    vars(score)["sha256"] = f"{weights_fingerprint(model.named_parameters())}-{text}"  # worker.py passes it on
    return score


def _load(
    path: str, revision: str | None, place: torch.device, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model, on its device, and its tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    silence_transformers()
    path = reward_model_path(path, "reward.path")
    check_files(path, revision, "reward.path")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, revision=revision)
    with room_for_model("reward.path"):
        model, notes = load_weights(AutoModelForSequenceClassification, path, revision, dtype, place, "reward.path")
        model.to(place)
    for note in notes:
        print(note)  # noqa: T201 - reward.log has what this process prints
    return model.eval(), tokenizer


def _context_length(model: PreTrainedModel) -> int:
    """The longest text that the model can read, in tokens. RoBERTa's positions begin behind that of the padding."""
    tables = (module for name, module in model.named_modules() if name.endswith(".position_embeddings"))
    padding = [number for table in tables if (number := getattr(table, "padding_idx", None)) is not None]
    return longest_text(model.config) - max((number + 1 for number in padding), default=0)


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
            raise ValueError(f"the model has several labels, and one has to be the score (reward.label): {listed}")
        return 0
    numbers = [number for number, name in names.items() if label in (number, name)]
    if not numbers:
        raise ValueError(f"the model has no label {label}; it has {listed}")
    return int(numbers[0])


class Watch:
    """Notes on what the model does not read of the texts that it scores."""

    def __init__(self, reads: str, tokenizer: PreTrainedTokenizerBase, limit: int) -> None:
        self._is_chat = choose_reads(reads, tokenizer) == "chat"
        self._whole = make_encoder(reads, tokenizer, UNCUT)
        self._tokenizer, self._limit = tokenizer, limit
        self._markers = (find_openings(tokenizer) if self._is_chat else ()), tuple(special_ids(tokenizer))
        self._shapes = set[tuple[bool, tuple[str, ...]]]()
        self._notes = dict[str, None]()

    def look_at(self, prompt: Any, completion: Any, tools: Any, tokens: int) -> None:
        """Compare a text with the `tokens` that were read of it."""
        if tokens >= self._limit and len(self._whole(prompt, completion, tools)[0]) > tokens:
            self._notes[f"the reward model reads {self._limit} tokens, and longer texts lose their beginning"] = None
        if not self._is_chat:
            return
        if isinstance(prompt, str) and is_rendered(prompt, *self._markers):
            self._notes["the reward model reads prompts that are rendered already as the user's text"] = None
        turns, tools = chat_of(prompt, completion), tools or None
        if (shape := (tools is not None, tuple(turn["role"] for turn in turns))) not in self._shapes:
            self._shapes.add(shape)
            try:
                render_whole(self._tokenizer, turns, tools, prompt=False)
            except TemplateError as error:
                self._notes[f"of the reward model: {error}"] = None
        if turns[-1]["content"].strip() not in render(self._tokenizer, turns, tools, prompt=False):
            self._notes["the reward model's chat template shows it only a part of some completions"] = None

    def notes(self) -> list[str]:
        """The notes up to now, each once."""
        return [*self._notes]


def choose_reads(reads: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The reading that `auto` stands for: a chat by the template, a pair where there is a separator, or one text."""
    if reads != "auto":
        return reads
    return "chat" if tokenizer.chat_template else "pair" if tokenizer.sep_token else "text"


def chat_of(prompt: Any, completion: Any) -> list[dict[str, Any]]:
    """The conversation of a prompt and its completion, each a text or messages."""
    answer = completion if isinstance(completion, str) else completion[-1]["content"]
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return [*turns, {"role": "assistant", "content": answer}]


def make_encoder(reads: str, tokenizer: PreTrainedTokenizerBase, limit: int) -> Encode:
    """Make the function that encodes what a reward model reads; a text loses its beginning beyond `limit` tokens.

    A prompt is a text or a list of chat messages, as `reward=model` gets it; `tools` is the row's column, which a chat
    template may write. Training reads the same tokens, so that the scores are the same.
    """
    reads = choose_reads(reads, tokenizer)
    if reads == "chat" and not tokenizer.chat_template:
        raise ValueError("the model has no chat template: let it read text or completion")
    tokenizer.truncation_side = "left"

    def encode(prompt: Any, completion: Any, tools: Any = None) -> tuple[list[int], list[int]]:
        turns = chat_of(prompt, completion)
        if reads == "chat":
            text = render(tokenizer, turns, tools or None, prompt=False)  # [] is no tool
            encoding = tokenizer(text, add_special_tokens=False, truncation=True, max_length=limit)
        else:
            *before, answer = (turn["content"] or "" for turn in turns)
            question = "\n".join(before)
            texts = {"pair": (question, answer), "text": (question + answer,), "completion": (answer,)}[reads]
            encoding = tokenizer(*texts, truncation=True, max_length=limit)
        if not encoding["input_ids"]:
            raise ValueError("a completion without a token cannot be scored")
        return list(encoding["input_ids"]), list(encoding.get("token_type_ids", ()))

    return encode
