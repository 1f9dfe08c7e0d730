"""The logs of a run: metrics, timings, samples and evaluations line by line, and its curves.

A resume cuts each jsonl file back to its length at the checkpoint.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Any

from rlhf_cli.runs.disk import no_link
from rlhf_cli.runs.folder import LOGS
from rlhf_cli.runs.json_files import content_of, finite
from rlhf_cli.runs.sinks import Curves
from rlhf_cli.types import Scored


@dataclass(frozen=True, slots=True)
class Mark:
    """The end of a file at one moment: its length in bytes, and the SHA-256 of its content up to there."""

    size: int = 0
    sha256: str = hashlib.sha256().hexdigest()

    def fits(self, content: bytes) -> bool:
        """Whether the content of the file begins as it was at that moment."""
        return hashlib.sha256(content[: self.size]).hexdigest() == self.sha256


class JsonlLog:
    """One jsonl file, made by its first line, without a buffer; numbers that are not finite become null.

    Lines end at "\\n" alone: a completion may hold other line separators.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._handle: FileIO | None = None
        content = content_of(file)
        self._digest, self._size = hashlib.sha256(content), len(content)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one line; raises OSError where the disk refuses."""
        line = json.dumps(finite(row), ensure_ascii=False, separators=(", ", ": ")).encode() + b"\n"
        done = 0
        try:
            if self._handle is None:  # a buffer would write once more at the end the bytes that a full disk refused
                self._handle = FileIO(self.file, "ab", opener=no_link)
            while done < len(line):
                done += self._handle.write(line[done:])
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.file)) from error
        self._digest.update(line)
        self._size += len(line)

    def mark(self) -> Mark:
        """The end of the file now."""
        return Mark(self._size, self._digest.hexdigest())

    def sync(self) -> None:
        """Put the file on disk: a checkpoint must not count lines that a power cut would lose."""
        if self._handle is not None:
            os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            self._handle.close()


def cut_back(file: Path, mark: Mark) -> Path | None:
    """Cut the file back to `mark`: drop the lines after a checkpoint.

    If the file's beginning was changed since the checkpoint, keep a copy beside it and return the copy's path.
    """
    content, copy = content_of(file), None
    if not mark.fits(content):
        number = next(n for n in count(1) if not file.with_suffix(f".orphan-{n}.jsonl").exists())
        copy = file.with_suffix(f".orphan-{number}.jsonl")
        shutil.copyfile(file, copy) if file.exists() else copy.touch()
    end = content[: mark.size].rfind(b"\n") + 1  # `mark.size`, unless the file was changed: no half line stays
    if len(content) > end:
        with file.open("r+b") as handle:
            handle.truncate(end)
    return copy


def drop_half_line(file: Path) -> None:
    """Cut off what a kill in the middle of a line left; raises OSError, also where the file is a link."""
    content = content_of(file)
    if content and not content.endswith(b"\n"):
        with open(file, "r+b", opener=no_link) as handle:
            handle.truncate(content.rfind(b"\n") + 1)


class Logbook:
    """The open files of the run in `folder`, and its curves elsewhere."""

    def __init__(self, folder: Path, curves: Curves) -> None:
        self._logs = {name: JsonlLog(folder / file) for name, file in LOGS.items()}
        self._curves = curves

    def marks(self) -> dict[str, Mark]:
        """The end of each file now."""
        return {name: log.mark() for name, log in self._logs.items()}

    def sync(self) -> None:
        """Put the lines written so far on disk; raises OSError where the disk refuses."""
        for log in self._logs.values():
            log.sync()

    def close(self) -> None:
        """Close the files."""
        for log in self._logs.values():
            log.close()
        self._curves.close()

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a line to metrics.jsonl, and a point to every curve."""
        self._logs["metrics"].write({"step": step, **metrics})
        self._curves.write(step, metrics)

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """Add an evaluation with all that it found to evaluations.jsonl."""
        self._logs["evaluations"].write(row)

    def samples(self, step: int, scored: Scored, count: int) -> None:
        """Add the first `count` completions of a step to samples.jsonl."""
        rollout, kl = scored.rollout, scored.distance.sequence_kl.tolist()
        for row in range(min(count, len(rollout.batch))):
            self._logs["samples"].write(
                {
                    "step": step,
                    "prompt": rollout.batch.prompt_of(row).row.shown,
                    "completion": rollout.texts[row],
                    "score": float(scored.scores[row]),
                    "kl": kl[row],
                    "truncated": bool(rollout.truncated[row]),
                }
            )

    def timings(
        self, step: int, seconds: Mapping[str, float], tokens: int, retries: int | None = None
    ) -> dict[str, float]:
        """Add a line to timings.jsonl: the seconds of each phase, tokens a second of training, the reward's retries.

        `retries` is None where there is no reward; no `tokens`, no speed. Returns the timings. A checkpoint is written
        after the line of its step, so its seconds are in the next line.
        """
        training = seconds["step"] - seconds.get("evaluation", 0.0) - seconds["checkpoint"]
        timings = {f"time/{name}_s": round(value, 4) for name, value in seconds.items()}
        timings |= {"tokens_per_s": round(tokens / max(training, 1e-9), 1)} if tokens else {}
        of_reward = {} if retries is None else {"reward/retries": retries}
        self._logs["timings"].write({"step": step, **timings, **of_reward})
        return timings
