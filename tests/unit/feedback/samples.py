"""Pairs and votes for the tests of the room."""

from __future__ import annotations

from pathlib import Path

from rlhf_cli.feedback.pairs import Pair, with_ids, write_rows
from rlhf_cli.feedback.preference import Row
from rlhf_cli.feedback.votes import Ballot, Side, Standing, Vote


def pairs_of(count: int, rewards: bool = True) -> tuple[Pair, ...]:
    """Pairs whose texts differ; the reward prefers a in those of even number, b in the others."""
    return with_ids(
        Row(f"prompt {n}", f"first {n}", f"second {n}", (float(n + 1), 0.0) if n % 2 == 0 else (0.0, float(n)))
        if rewards
        else Row(f"prompt {n}", f"first {n}", f"second {n}", None)
        for n in range(count)
    )


def file_of(folder: Path, rows: list[Row]) -> Path:
    """A file of pairs."""
    file = folder / "made" / "pairs.jsonl"
    write_rows(file, rows)
    return file


def vote(pair: Pair | str, what: Ballot, *, rater: str = "me", left: Side = "a", chance: float = 0.5) -> Vote:
    """A line."""
    name = pair if isinstance(pair, str) else pair.id
    return Vote("2026-11-28T00:00:00+00:00", rater, name, what, left, chance)


def standing(*votes: Vote) -> Standing:
    """The votes that stand after these lines."""
    return Standing.of(votes)
