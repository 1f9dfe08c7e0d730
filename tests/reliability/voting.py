"""People who vote while a run trains, and a kill between a vote and the line that shows it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_cli.feedback.pairs import read_pairs
from rlhf_cli.feedback.readings import queued_files
from rlhf_cli.feedback.votes import Choice, Vote, VoteFile
from rlhf_cli.pipeline import loop
from rlhf_cli.pipeline.run import Run
from rlhf_cli.runs.logbook import JsonlLog

CAST: Mapping[int, str] = {2: "a", 3: "bt", 6: "ab"}
"""By the step that is complete, the votes that then arrive on the newest pairs."""


def cast(folder: Path, words: str, rater: str = "me") -> None:
    """Votes on the first pairs of the newest file."""
    names: dict[str, Choice] = {"a": "a", "b": "b", "t": "tie"}
    file = queued_files(folder)[-1]
    for pair, word in zip([pair for pair in read_pairs(file) if not pair.is_same], words, strict=False):
        VoteFile(file).append(Vote("2026-11-29T00:00:00+00:00", rater, pair.id, names[word], "a", 0.25))


def stop_after(step: int) -> None:
    """SIGTERM reaches this process as soon as the run has completed the step, and before the votes after it."""
    complete = loop.complete

    def stopping(run: Run, *arguments: Any) -> None:
        complete(run, *arguments)
        if run.state.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    loop.complete = stopping


def vote_meanwhile() -> None:
    """Let people vote after the steps of CAST, in this process."""
    complete = loop.complete

    def voting(run: Run, *arguments: Any) -> None:
        complete(run, *arguments)
        if words := CAST.get(run.state.step):
            cast(run.folder, words)

    loop.complete = voting


def die_at(name: str, step: int, half: bool) -> None:
    """kill -9 after, or in the middle of, the line of a step in that log."""
    write = JsonlLog.write

    def dying(self: JsonlLog, row: Mapping[str, Any]) -> None:
        if self.file.name == name and row["step"] == step:
            if half:
                with self.file.open("ab") as log:
                    log.write(b'{"step": ')
            else:
                write(self, row)
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, row)

    JsonlLog.write = dying  # type: ignore[method-assign]  # this process is about to die
