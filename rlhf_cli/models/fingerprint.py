"""Hashes of a model's weights and of how it reads and writes text: a resumed run notices that either changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE: Final = "It's 3.14 %, no?\n\tNaïve CAFÉ \u6f22\u5b57 \U0001f600 unbelievably  {x_1: [-7]}"
"""A text that takes a tokenizer's normaliser, splits and merges."""


def weights_fingerprint(weights: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 over names, shapes and up to 1024 evenly spaced values of every weight: quick on any size."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights, key=lambda pair: pair[0]):
        flat = weight.detach().flatten()
        values = flat[:: max(1, len(flat) // 1024)].float().cpu().contiguous()
        digest.update(f"{name} {tuple(weight.shape)}".encode() + values.numpy().tobytes())
    return digest.hexdigest()


def text_fingerprint(tokenizer: PreTrainedTokenizerBase, ends: Collection[int], *, use_chat_template: bool) -> str:
    """SHA-256 over the vocabulary, the tokens of a text, the chat template where it is used, and the end tokens."""
    told = [
        sorted(tokenizer.get_vocab().items()),
        [tokenizer(_PROBE, add_special_tokens=added)["input_ids"] for added in (True, False)],
        str(tokenizer.chat_template) if use_chat_template else None,
        sorted(ends),
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
