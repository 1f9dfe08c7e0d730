"""A causal language model from a hub, a folder, or a GGUF file inside a Python package."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rlhf_cli.errors import EXIT_DISK, UserError
from rlhf_cli.models.settings import Pretrained
from rlhf_cli.models.source import EMBEDDED, find

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def load(settings: Pretrained, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in `dtype` and its tokenizer, from safetensors only; code that came with it runs only where trusted.

    Raises UserError where the model or its adapter cannot be found or read.
    """
    from transformers import AutoModelForCausalLM

    with _found(settings) as source:
        tokenizer = _tokenizer(source, settings)
        model = AutoModelForCausalLM.from_pretrained(
            source,
            revision=settings.revision,
            dtype=torch.float32 if settings.adapter else dtype,  # merged in float32: bfloat16 would lose most of it
            use_safetensors=True,
            trust_remote_code=settings.trust_remote_code,
        )
    return (_merged(model, settings.adapter) if settings.adapter else model), tokenizer


def load_tokenizer(settings: Pretrained) -> tuple[PreTrainedTokenizerBase, PretrainedConfig]:
    """The model's tokenizer and its config, without the weights; raises UserError as `load` does."""
    from transformers import AutoConfig

    with _found(settings) as source:
        config = AutoConfig.from_pretrained(
            source, revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )
        return _tokenizer(source, settings), config


@contextmanager
def _found(settings: Pretrained) -> Iterator[str]:
    """What transformers is to load from; inside, all that it raises for a model it cannot find becomes a UserError."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # of reading weights, a second's work; downloads keep theirs
    logging.set_verbosity_error()
    source = resolve(settings)
    try:
        yield source
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as error:  # what transformers raises for anything missing, unreachable or unknown
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
    """Raise UserError where tokenizer_config.json names files elsewhere, which would be read as its vocabulary.

    A name is looked up in the working directory: `vocab_file: .env` would read a secret (transformers#46279). Names of
    what is not there, left over on the machine of whoever saved it, do no harm.
    """
    from transformers.utils import cached_file

    try:
        file = cached_file(source, "tokenizer_config.json", revision=revision)
        config = json.loads(Path(file).read_text(encoding="utf-8")) if file else {}
    except OSError:  # there is none, or nothing at all: what loads the tokenizer says so better
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
    """What transformers can load: the hub id, or an existing folder; a packaged GGUF file is converted on first use."""
    file = find(settings)
    return str(converted(file)) if file is not None and file.is_file() else settings.path


def cache_dir() -> Path:
    """Where converted models are kept: $XDG_CACHE_HOME/rlhf-cli, by default ~/.cache/rlhf-cli."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlhf-cli"


def converted(gguf: Path) -> Path:
    """The transformers folder (float32 safetensors) of a GGUF file, made once and kept in the cache.

    Made under a lock and published by a rename, so that parallel runs convert once and a killed one leaves nothing half
    done. Raises UserError (exit 6) where the cache cannot be written.
    """
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()[:16]
    folder = cache_dir() / "models" / f"{gguf.stem}-{digest}"
    if folder.is_dir():
        return folder
    try:
        with _locked(folder.parent / f".{folder.name}.lock"):
            if not folder.is_dir():
                scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".converting-"))
                try:
                    _convert(gguf, scratch)
                    scratch.chmod(0o755)
                    scratch.rename(folder)
                finally:
                    shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"the model cache cannot be written: {error.strerror or error}",
            where=str(folder.parent),
            fix="free some space, or point XDG_CACHE_HOME elsewhere",
            exit_code=EXIT_DISK,
        ) from error
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Reading takes seconds and draws a progress bar: welcome on a terminal, line noise in a log.
    with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # The weights are plain float32 now, but transformers refuses to save a model that says it is quantised.
    for leftover in (model.config, model):
        for name in ("quantization_config", "hf_quantizer", "is_quantized"):
            if name in vars(leftover):
                delattr(leftover, name)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def _merged(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The model with an adapter folded into its weights."""
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
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # no config, other names, other shapes
        raise UserError(
            f"the adapter does not fit the model: {_first_line(error)}", where="model.adapter", fix="check both"
        ) from error
    return merged


def _check_adapter(config: Any) -> None:
    """Raise ValueError for a kind of adapter that would have PEFT import modules or fetch models by names in a file."""
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError("adapter_config.json is not of a LoRA adapter")
    if config.get("megatron_config"):  # PEFT would import the module that megatron_core names
        raise ValueError("adapter_config.json wants megatron_core, a module of its own choice")


@contextmanager
def quiet_peft() -> Iterator[None]:
    """PEFT reads an attribute that transformers has renamed, and warns: nothing that a user could mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
