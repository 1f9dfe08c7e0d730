"""Hashes of a model's weights and of how it reads and writes text: a resumed run notices that either changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from rlhf_cli.models.files import read_json
from rlhf_cli.models.memory import DTYPES

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

_PROBE: Final = "It's 3.14 %, no?\n\tNaïve CAFÉ \u6f22\u5b57 \U0001f600 unbelievably  {x_1: [-7]}"
"""A text that takes a tokenizer's normaliser, splits and merges."""


def weights_fingerprint(weights: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 over names, shapes and up to 2047 evenly spaced values of every weight: quick on any size."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights, key=lambda pair: pair[0]):
        flat = weight.detach().flatten()
        values = flat[:: max(1, len(flat) // 1024)].float().cpu().contiguous()
        digest.update(f"{name} {tuple(weight.shape)}".encode() + values.numpy().tobytes())
    return digest.hexdigest()


def are_weights_of(record: Mapping[str, Any], weights: Mapping[str, Tensor]) -> bool:
    """Whether the frozen weights are those that a run began with; `record` is its run.json.

    They are rounded to the run's dtype first. True too where that cannot be told: the record has no hash, or the
    weights are in a coarser dtype.
    """
    model = record.get("model")
    known, dtype = model.get("sha256_sampled") if isinstance(model, dict) else None, record.get("dtype")
    as_then = DTYPES.get(str(dtype))
    if known is None or as_then is None or any(w.dtype not in (torch.float32, as_then) for w in weights.values()):
        return True
    return bool(known == weights_fingerprint((name, weight.to(as_then)) for name, weight in weights.items()))


def is_trained_on(adapter: Path, model: PeftModel) -> bool:
    """Whether an adapter's folder is not that of a run which trained it on other weights; `model` has such adapters."""
    runs = (read_json(place / "run.json") for place in (adapter.parent, adapter.parent.parent))
    frozen = {name: weight for name, weight in model.named_parameters() if "lora_" not in name}
    return are_weights_of(next(filter(None, runs), {}), frozen)


def text_fingerprint(tokenizer: PreTrainedTokenizerBase, ends: Collection[int], *, use_chat_template: bool) -> str:
    """SHA-256 over the vocabulary, the tokens of a text, the chat template where it is used, and the end tokens."""
    read = [
        sorted(tokenizer.get_vocab().items()),
        [tokenizer(_PROBE, add_special_tokens=added)["input_ids"] for added in (True, False)],
        str(tokenizer.chat_template) if use_chat_template else None,
        sorted(ends),
    ]
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()
