"""Share the evaluation of the untouched policy among the trials of a sweep: the first makes it, the others read it.

A kill leaves nothing half done: the file is written whole or not at all, and the lock ends with its process.
"""

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, Final

from rlhf_cli.runs.binding import CHANGED, CONFIGS, HELD_OUT, OWN, PARENT, own_hash
from rlhf_cli.runs.changes import is_free
from rlhf_cli.runs.disk import no_link
from rlhf_cli.runs.folder import SHARED, SWEEP
from rlhf_cli.runs.json_files import read_object, write_json
from rlhf_cli.schema import RunConfig
from rlhf_cli.settings import flatten

UNUSED: Final = (
    "algorithm", "kl", "beta", "temperature", "optimizer", "top_k", "top_p", "min_p", "exact_kl_every",
    "max_skipped_steps",
)  # fmt: skip
"""Settings of the training alone: what an untouched policy writes, and its scores, do not depend on them."""
OF_THE_RUN: Final = ("command", "memory", CONFIGS, HELD_OUT, PARENT, CHANGED, OWN)
"""Keys of run.json that no number of an evaluation depends on."""
PATIENCE_S: Final = 600.0
"""Longest wait of a trial for another's evaluation; then it makes its own."""
INTERVAL_S: Final = 0.1


def find_place(folder: Path, config: RunConfig, record: Mapping[str, Any]) -> Path | None:
    """The file that the trials of a sweep which would evaluate alike share; None where there is nothing to share.

    `folder` is the run's, and `record` its run.json. Everything is taken to matter that is not known to be unused.
    """
    if not (folder.parent / SWEEP).is_file() or not config.reward.source.is_repeatable:
        return None
    settings = dict(flatten(config.model_dump(mode="json")))
    bound = {key: value for key, value in settings.items() if key.split(".")[0] not in UNUSED and not is_free(key)}
    ground = {key: value for key, value in record.items() if key not in OF_THE_RUN}
    heads = config.algorithm.needs_value, config.algorithm.shared_trunk
    text = json.dumps([bound, ground, heads], sort_keys=True)
    return folder.parent / SHARED / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def share(
    file: Path, make: Callable[[], tuple[dict[str, Any], bool]], check: Callable[[], None]
) -> tuple[dict[str, Any], bool]:
    """Read the content of the file, or make it; return it, and whether another process made it.

    One process makes it, and others wait. `make` returns the content, and whether to keep it in the file. `check`
    raises where waiting is to end. A disk that refuses is no error.
    """
    with _open_lock(file) as lock:
        if lock is not None:
            _wait(lock, check)
            if found := _read(file):
                return found, True
        content, is_kept = make()
        if lock is not None and is_kept:
            with suppress(OSError):
                write_json(file, content | {OWN: own_hash(content)}, indent=None)
        return content, False


def _open_lock(file: Path) -> AbstractContextManager[IO[str] | None]:
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        return open(file.with_suffix(".lock"), "a", opener=no_link)
    return nullcontext()


def _read(file: Path) -> dict[str, Any]:
    """The content; empty where the file is missing, or not as it was written."""
    content = read_object(file)
    return content if content and content.pop(OWN, None) == own_hash(content) else {}


def _wait(lock: IO[str], check: Callable[[], None]) -> None:
    """Take the lock, which the end of a process frees; without it after PATIENCE_S, or where the disk has no locks."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(INTERVAL_S)
            check()
        except OSError:
            return
        else:
            return
