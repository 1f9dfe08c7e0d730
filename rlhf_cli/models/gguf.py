"""Convert a GGUF file inside a Python package into a transformers folder, once, in the cache."""

import fcntl
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from typing import Final

import torch

from rlhf_cli.errors import EXIT_DISK, UserError, bad_disk

WRITER: Final = b"2"
"""Another number where a conversion writes other files: those of before are then not taken for its own."""


def cache_dir() -> Path:
    """The folder of converted models: $XDG_CACHE_HOME/rlhf-cli, by default ~/.cache/rlhf-cli.

    Raises UserError (exit 6) where there is no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlhf-cli"
    except RuntimeError as error:
        raise UserError(
            "this user has no home folder for the cache", fix="set XDG_CACHE_HOME=FOLDER", exit_code=EXIT_DISK
        ) from error


def convert(gguf: Path) -> Path:
    """Convert a GGUF file into a transformers folder (float32 safetensors) in the cache, unless it is there already.

    Its config.json gives bfloat16 as the dtype of a file that is no finer.

    A lock and a final rename make parallel runs convert once, and let a killed run leave nothing half done. Raises
    UserError (exit 6) where the cache cannot be written.
    """
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(WRITER)
    folder = cache_dir() / "models" / f"{gguf.stem}-{digest.hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f".{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".converting-"))
                try:
                    _write(gguf, scratch)
                    scratch.chmod(0o755)
                    scratch.rename(folder)
                finally:
                    shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise bad_disk(
            f"the model cache cannot be written: {error.strerror or error}",
            folder.parent,
            "free some space, or point XDG_CACHE_HOME elsewhere",
        ) from error
    return folder


def _write(gguf: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Reading takes seconds and draws a progress bar, which only belongs on a terminal.
    with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # The weights are plain float32 now, but transformers refuses to save a model that says it is quantised.
    for leftover in (model.config, model):
        for name in ("quantization_config", "hf_quantizer", "is_quantized"):
            if name in vars(leftover):
                delattr(leftover, name)
    model.save_pretrained(folder)
    if _is_coarse(gguf):
        _say_bfloat16(folder / "config.json")
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def _is_coarse(gguf: Path) -> bool:
    """Whether every matrix of the file is quantised or in bfloat16, so that bfloat16 loses next to nothing of it."""
    from gguf import GGMLQuantizationType, GGUFReader

    fine = (GGMLQuantizationType.F64, GGMLQuantizationType.F32, GGMLQuantizationType.F16)
    return all(tensor.tensor_type not in fine for tensor in GGUFReader(gguf).tensors if len(tensor.shape) > 1)


def _say_bfloat16(config: Path) -> None:
    """Write into a model's config.json that bfloat16 is its own dtype, which `dtype=auto` asks for."""
    settings = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(settings | {"dtype": "bfloat16"}, indent=2) + "\n", encoding="utf-8")
