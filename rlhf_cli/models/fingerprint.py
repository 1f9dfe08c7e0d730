"""Hashes of a model's weights and of how it reads and writes text: a resumed run notices that either changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from rlhf_cli.models.files import read_json
from rlhf_cli.models.memory import DTYPES

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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


def rounded(
    model: PreTrainedModel, weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """The model's weights in this dtype, but for those that the library keeps in float32, as some routers of experts.

    The names may be those of the model with an adapter around it.
    """
    kept = model._keep_in_fp32_modules_strict or ()
    for name, weight in weights:
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        yield name, weight if any(part in plain for part in kept) else weight.to(dtype)


def are_weights_of(record: Mapping[str, Any], model: PreTrainedModel, weights: Mapping[str, Tensor]) -> bool:
    """Whether the model's frozen weights are those that a run began with; `record` is its run.json.

    They are rounded to the run's dtype first. True too where that cannot be told: the record has no hash, or the
    weights are in a coarser dtype.
    """
    noted, as_then = record.get("model"), DTYPES.get(str(record.get("dtype")))
    known = noted.get("sha256_sampled") if isinstance(noted, dict) else None
    if known is None or as_then is None or any(w.dtype not in (torch.float32, as_then) for w in weights.values()):
        return True
    return bool(known == weights_fingerprint(rounded(model, weights.items(), as_then)))


def is_trained_on(adapter: Path, model: PeftModel) -> bool:
    """Whether an adapter's folder is not that of a run which trained it on other weights; `model` has such adapters."""
    runs = (read_json(place / "run.json") for place in (adapter.parent, adapter.parent.parent))
    frozen = {name: weight for name, weight in model.named_parameters() if "lora_" not in name}
    return are_weights_of(next(filter(None, runs), {}), model.get_base_model(), frozen)


def text_fingerprint(tokenizer: PreTrainedTokenizerBase, ends: Collection[int], *, use_chat_template: bool) -> str:
    """SHA-256 over the vocabulary, the tokens of a text, the chat template where it is used, and the end tokens."""
    read = [
        sorted(tokenizer.get_vocab().items()),
        [tokenizer(_PROBE, add_special_tokens=added)["input_ids"] for added in (True, False)],
        str(tokenizer.chat_template) if use_chat_template else None,
        sorted(ends),
    ]
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()
