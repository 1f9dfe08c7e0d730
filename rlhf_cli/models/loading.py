"""Load a pretrained causal language model and its tokenizer from a hub, a folder or a Python package."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rlhf_cli.errors import UserError
from rlhf_cli.models.gguf import convert
from rlhf_cli.models.location import EMBEDDED, local_path
from rlhf_cli.models.settings import Pretrained

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def load(settings: Pretrained, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model in `dtype`, and its tokenizer, from safetensors only; the model's own code runs only if trusted.

    Raises UserError where the model or its adapter is missing or cannot be read.
    """
    from transformers import AutoModelForCausalLM

    with _locate(settings) as source:
        tokenizer = _tokenizer(source, settings)
        model = AutoModelForCausalLM.from_pretrained(
            source,
            revision=settings.revision,
            dtype=torch.float32 if settings.adapter else dtype,  # merged in float32: bfloat16 would lose most of it
            use_safetensors=True,
            trust_remote_code=settings.trust_remote_code,
        )
    return (_merge_adapter(model, settings.adapter) if settings.adapter else model), tokenizer


def load_tokenizer(settings: Pretrained) -> tuple[PreTrainedTokenizerBase, PretrainedConfig]:
    """Load the model's tokenizer and config, without the weights; raises UserError as `load` does."""
    from transformers import AutoConfig

    with _locate(settings) as source:
        config = AutoConfig.from_pretrained(
            source, revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )
        return _tokenizer(source, settings), config


@contextmanager
def _locate(settings: Pretrained) -> Iterator[str]:
    """Give the hub id or folder to load from; inside, transformers' errors of loading become UserErrors."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # of reading weights, which takes a second; downloads keep theirs
    logging.set_verbosity_error()
    source = resolve(settings)
    try:
        yield source
    except (OSError, ValueError, RecursionError) as error:  # anything missing, unreachable or unknown
        raise UserError(
            f"cannot load the model {settings.path}: {_first_line(error)}",
            where="model.path",
            fix=f"check the name and the network, give a folder, or use the embedded model: {EMBEDDED}",
        ) from error


def _tokenizer(source: str, settings: Pretrained) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    check_tokenizer(source, settings.revision)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        source, revision=settings.revision, trust_remote_code=settings.trust_remote_code
    )
    return tokenizer


def check_tokenizer(source: str, revision: str | None) -> None:
    """Raise UserError where tokenizer_config.json names existing files outside of the model.

    They would be read as its vocabulary. Names are looked up in the working directory, so `vocab_file: .env` would read
    a secret (transformers#46279). Names of missing files, left over from another machine, are harmless.
    """
    from transformers.utils import cached_file

    try:
        file = cached_file(source, "tokenizer_config.json", revision=revision)
        config = json.loads(Path(file).read_text(encoding="utf-8")) if file else {}
    except OSError:  # no such file or no such model: loading the tokenizer gives the better message
        return
    for key, value in config.items() if isinstance(config, dict) else ():
        if not (key.endswith("_file") and isinstance(value, str)):
            continue
        if os.path.lexists(value) and not Path(value).resolve().is_relative_to(Path(source).resolve()):
            raise UserError(
                f"its tokenizer_config.json would have {key} read from {value}, outside of the model",
                where="model.path",
                fix="take a model from a source you trust, or remove the key",
            )


def resolve(settings: Pretrained) -> str:
    """The hub id or folder that transformers can load; a packaged GGUF file is converted on first use."""
    file = local_path(settings)
    return str(convert(file)) if file is not None and file.is_file() else settings.path


def _merge_adapter(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """Fold an adapter into the model's weights."""
    from peft import PeftModel

    folder = Path(adapter)
    if not (folder / "adapter_model.safetensors").is_file():
        raise UserError(
            f"{adapter} holds no adapter_model.safetensors",
            where="model.adapter",
            fix="give a PEFT folder saved as safetensors; pickled weights are not read",
        )
    try:
        _check_adapter(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")))
        with quiet_peft():
            merged: PreTrainedModel = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # no config, or other names or shapes
        raise UserError(
            f"the adapter does not fit the model: {_first_line(error)}", where="model.adapter", fix="check both"
        ) from error
    return merged


def _check_adapter(config: Any) -> None:
    """Raise ValueError for an adapter that would make PEFT import a module or fetch a model that its file names."""
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError("adapter_config.json is not of a LoRA adapter")
    if config.get("megatron_config"):  # PEFT would import the module that megatron_core names
        raise ValueError("adapter_config.json wants megatron_core, a module of its own choice")


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence a warning of PEFT about an attribute that transformers renamed: no user could mend it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
