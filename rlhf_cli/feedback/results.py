"""The results of labelling: what the votes on one file of pairs say, or on those of a run, step by step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_cli.errors import UserError
from rlhf_cli.feedback.pairs import read_pairs
from rlhf_cli.feedback.saying import describe, share
from rlhf_cli.feedback.tally import Tally, tally
from rlhf_cli.feedback.votes import VoteFile, Votes
from rlhf_cli.plural import plural


@dataclass(frozen=True, slots=True)
class Result:
    """The votes on one file of pairs."""

    pairs: Path
    votes: Path
    titles: tuple[str, str]
    """Names of the two sides."""
    tally: Tally
    cast: Votes

    def row(self) -> dict[str, Any]:
        """Plain data for JSON."""
        head = {"pairs_file": str(self.pairs), "votes_file": str(self.votes), "a": self.titles[0], "b": self.titles[1]}
        return head | {"result": self.tally.row()}


def read_results(files: Sequence[Path], titles: Callable[[Path], tuple[str, str]]) -> list[Result]:
    """The results in the order of the files; those that cannot be read are passed over."""
    found = []
    for file in files:
        try:
            pairs, votes = read_pairs(file), VoteFile(file)
            cast = votes.read()
        except (UserError, OSError):
            continue
        found.append(Result(file, votes.file, titles(file), tally(cast, pairs), cast))
    return found


def newest(results: Sequence[Result]) -> Result | None:
    """The last one with votes, or the last of all; None without any."""
    return next((one for one in reversed(results) if one.tally.votes), results[-1] if results else None)


def describe_results(results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    """Lines of a name and a text: all about the newest, and the win rate of each where several have votes."""
    if (last := newest(results)) is None:
        yield "pairs", "none yet"
        return
    yield from describe(last.tally, last.titles)
    voted = [one for one in results if one.tally.votes]
    for place, one in enumerate(voted if len(voted) > 1 else ()):
        votes = plural(one.tally.votes, "vote")
        rate = f"{one.titles[0]} {share(one.tally.win_rate)} against {one.titles[1]}, {votes}"
        yield "" if place else "by step", rate
