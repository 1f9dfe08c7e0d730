"""The tally of people's votes on a run's completions, and the pairs on which people and the reward disagree most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rlhf_cli.errors import UserError
from rlhf_cli.feedback.from_runs import labelled_files, titles_of
from rlhf_cli.feedback.pairs import Pair, read_pairs
from rlhf_cli.feedback.saying import describe
from rlhf_cli.feedback.tally import tally
from rlhf_cli.feedback.votes import VoteFile, Votes

SHOWN: Final = 3
"""Pairs of a file that a page shows."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A pair on which people prefer the completion with the lower reward."""

    prompt: str
    preferred: tuple[str, str]
    """Its title, with its reward, and the text."""
    other: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Labelled:
    """The votes on one file of pairs."""

    lines: Sequence[tuple[str, str]]
    disagreements: Sequence[Disagreement]


def labelled(run: Path) -> list[Labelled]:
    """The votes on a run's completions, the newest step last; files that cannot be read are passed over."""
    found = []
    for file in labelled_files(run):
        try:
            pairs, votes = read_pairs(file), VoteFile(file).read()
        except (UserError, OSError):
            continue
        if votes.lines:
            titles = titles_of(file)
            found.append(Labelled(list(describe(tally(votes, pairs), titles)), _disagreements(pairs, votes, titles)))
    return found


def _disagreements(pairs: Sequence[Pair], votes: Votes, titles: tuple[str, str]) -> list[Disagreement]:
    """The pairs whose votes are on the other side than the reward, by how far their rewards are apart."""
    standings = [votes.of(rater).valid for rater in votes.raters()]
    found = []
    for pair in pairs:
        scores = [s[pair.id].score for s in standings if pair.id in s]
        lean = sum(score - 0.5 for score in scores if score is not None)
        if pair.rewards is None or lean * (gap := pair.rewards[0] - pair.rewards[1]) >= 0:
            continue
        sides = [
            (f"{title} (reward {reward:.3f})", text)
            for title, reward, text in zip(titles, pair.rewards, (pair.a, pair.b), strict=True)
        ]
        preferred, other = sides if lean > 0 else reversed(sides)
        found.append((abs(gap), Disagreement(pair.prompt, preferred, other)))
    return [one for _, one in sorted(found, key=lambda one: -one[0])[:SHOWN]]
