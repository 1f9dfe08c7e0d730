"""The file of votes: one JSON line a vote, on disk before it is acknowledged, and never rewritten.

Several processes may write: each line is appended under a lock. A line that a kill cut short stays, and the next one
begins on a line of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from rlhf_cli.errors import bad_data
from rlhf_cli.paths import why_irregular
from rlhf_cli.runs.disk import DISK
from rlhf_cli.runs.json_files import Stored

Side = Literal["a", "b"]
Choice = Literal["a", "b", "tie", "both_bad", "skip"]
"""The better side; equally good; equally bad; no opinion, which does not count."""
Ballot = Choice | Literal["undo"]
"""The vote of a line."""
CHOICES: Final = get_args(Choice)
SCORES: Final = {"a": 1.0, "tie": 0.5, "both_bad": 0.5, "b": 0.0}
"""The score that a vote gives to a. A skip has none."""
LEAST: Final = 1e-12
"""The least chance of a vote: none of ours is so small, and beyond it the estimate would not be finite."""


@dataclass(frozen=True, slots=True)
class Vote(Stored):
    """One line."""

    time: str
    """UTC, ISO 8601."""
    rater: str
    pair: str
    """The pair's id."""
    vote: Ballot
    """undo takes the rater's vote on the pair back."""
    left: Side
    """The side that was shown first."""
    chance: Annotated[float, Field(ge=LEAST, le=1)]
    """The chance with which this pair was chosen out of those that the rater had not been asked."""
    note: str = ""
    of: Annotated[int, Field(ge=1)] | None = None
    """The pairs of the file that can be asked, then: more may be added later. None in lines of earlier versions."""

    @property
    def score(self) -> float | None:
        """1 where a is better, 1/2 for a tie, 0 where b is; None for a skip."""
        return SCORES.get(self.vote)


@dataclass(frozen=True, slots=True)
class Votes:
    """The lines of a file of votes."""

    lines: tuple[Vote, ...]
    odd: tuple[str, ...]
    """`file:line: reason` for every line that is no vote, such as one that a kill cut short. It does not count."""

    def raters(self) -> list[str]:
        """The names of the raters, in the order of their first lines."""
        return list(dict.fromkeys(vote.rater for vote in self.lines))

    def of(self, rater: str) -> Standing:
        """The votes of one rater that stand."""
        return Standing.of(vote for vote in self.lines if vote.rater == rater)


@dataclass(frozen=True, slots=True)
class Standing:
    """The votes of one rater that stand, and those that were taken back."""

    drawn: dict[str, Vote]
    """The first line on each pair, by the pair's id, in the order in which they were asked."""
    valid: dict[str, Vote]
    """The vote that stands, in the same order."""
    history: tuple[str, ...]
    """The pairs of `valid` in the order in which they were last voted on."""

    @classmethod
    def of(cls, lines: Iterable[Vote]) -> Standing:
        """Apply the lines in order: a later vote on a pair replaces an earlier one."""
        drawn: dict[str, Vote] = {}
        valid: dict[str, Vote] = {}
        for vote in lines:
            valid.pop(vote.pair, None)
            if vote.vote != "undo":
                drawn.setdefault(vote.pair, vote)
                valid[vote.pair] = vote
        return cls(drawn, {pair: valid[pair] for pair in drawn if pair in valid}, tuple(valid))

    @property
    def taken_back(self) -> list[str]:
        """The pairs that were asked and have no vote now, in the order in which they were asked."""
        return [pair for pair in self.drawn if pair not in self.valid]


class VoteFile:
    """The votes beside a file of pairs."""

    def __init__(self, pairs: Path) -> None:
        self.file = pairs.with_name(f"{pairs.name.removesuffix('.jsonl')}.votes.jsonl")
        why = why_irregular(self.file) or ("a folder" if self.file.is_dir() else None)
        if why is None and self.file.is_symlink():
            why = "a link, and votes would be added to what it leads to"
        if why:
            raise bad_data(f"no file of votes: {why}", self.file, "move it away")

    def read(self) -> Votes:
        """All lines that are votes, and what is wrong with the others; raises OSError where the disk refuses."""
        if not self.file.exists():
            return Votes((), ())
        votes, odd = [], []
        *lines, rest = self.file.read_bytes().split(b"\n")
        for number, line in enumerate([*lines, rest], start=1):
            if (vote := Vote.parse(line)) is not None:
                votes.append(vote)
            elif line:
                why = "half a line, as a kill leaves it" if line is rest else "no vote"
                odd.append(f"{self.file.name}:{number}: {why}")
        return Votes(tuple(votes), tuple(odd))

    def append(self, vote: Vote) -> None:
        """Add a line, and return when it is on disk; raises OSError where the disk refuses."""
        line = json.dumps(vote.content(), ensure_ascii=False).encode() + b"\n"
        is_new = not self.file.exists()
        handle = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line  # a kill or a full disk cut the last line short
            while line:
                line = line[os.write(handle, line) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        if is_new:
            DISK.sync(self.file.parent)
