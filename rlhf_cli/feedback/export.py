"""Votes as preference rows in TRL's format: prompt, chosen, rejected, and the share of votes for chosen."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rlhf_cli.errors import bad_data
from rlhf_cli.feedback.pairs import Pair
from rlhf_cli.feedback.votes import Votes
from rlhf_cli.runs.disk import DISK, replace_file


@dataclass(frozen=True, slots=True)
class Preferences:
    """The rows, and what became of the other pairs that people were asked about."""

    rows: tuple[dict[str, Any], ...]
    left_out: Counter[str]
    """Reason -> number of pairs."""

    @property
    def ties(self) -> int:
        """Rows whose votes prefer neither completion."""
        return sum(row["share"] == 0.5 for row in self.rows)


def preferences(asked: Sequence[tuple[Votes, Sequence[Pair]]]) -> Preferences:
    """The votes that stand on each file of pairs, the raters' mean a pair; skips do not count.

    Left out are pairs on which all votes are `both_bad`, and those with an empty completion: neither teaches a model
    what to write.
    """
    rows, left_out = [], Counter[str]()
    for votes, pairs in asked:
        standings = [votes.of(rater).valid for rater in votes.raters()]
        for pair in pairs:
            cast = [standing[pair.id] for standing in standings if pair.id in standing and not pair.is_same]
            scores = [vote.score for vote in cast if vote.vote != "both_bad" and vote.score is not None]
            if scores and pair.a.strip() and pair.b.strip():
                rows.append(_row(pair, fmean(scores)))
            elif scores:
                left_out["with an empty text"] += 1
            elif any(vote.vote == "both_bad" for vote in cast):
                left_out["both bad"] += 1
    return Preferences(tuple(rows), left_out)


def _row(pair: Pair, share: float) -> dict[str, Any]:
    """The row of a pair with the share of votes for a."""
    better, worse = (pair.a, pair.b) if share >= 0.5 else (pair.b, pair.a)
    share = max(share, 1 - share)
    if not pair.turns:
        return {"prompt": pair.prompt, "chosen": better, "rejected": worse, "share": share}
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in (better, worse))
    prompt = [{"role": role, "content": content} for role, content in pair.turns]
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "share": share}


def write_preferences(found: Preferences, file: Path) -> None:
    """Write a new jsonl file; raises UserError (exit 3) without a row, where the file exists, or cannot be made."""
    if not found.rows:
        why = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items())
        what = f"no vote for a completion, nor a tie{f': {why}' if why else ''}"
        raise bad_data(what, "--export", "vote first, by the same command without --export")
    if os.path.lexists(file):
        raise bad_data("there is such a file", file, "name another one")
    try:
        replace_file(file, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in found.rows), DISK)
    except OSError as error:
        what, fix = f"cannot be written: {error.strerror}", "name a file in a folder where you may write"
        raise bad_data(what, file, fix) from error
