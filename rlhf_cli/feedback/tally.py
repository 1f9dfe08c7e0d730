"""All that the votes on a file of pairs say."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rlhf_cli.evaluation.intervals import Share, wilson
from rlhf_cli.feedback.agreement import cohen, fleiss
from rlhf_cli.feedback.pairs import Pair
from rlhf_cli.feedback.votes import CHOICES, Standing, Votes
from rlhf_cli.feedback.win_rate import is_random, reward_agreement, win_rate
from rlhf_cli.runs.json_files import finite


@dataclass(frozen=True, slots=True)
class Kappa:
    """Agreement of the raters, on the pairs that all of them voted on."""

    kind: Literal["cohen", "fleiss"]
    value: float | None
    """None where all say the same one thing about all pairs."""
    raters: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Votes counted, and what they show; a is the first of the two that are compared."""

    pairs: int
    identical: int
    """Pairs that are ties without asking."""
    added: int
    """Pairs to ask that were added to the file after the first vote."""
    waiting: int
    """The other pairs that nobody has voted on."""
    raters: Mapping[str, Mapping[str, int]]
    """The number of times that each vote was cast, by rater."""
    win_rate: Share
    """The win rate of a: ties and pairs that are both bad count half, identical ones too."""
    decided: Share | None
    """The same among votes for one of the sides; None where there is none, or pairs were chosen."""
    agreement: Share | None
    """The agreement of people with the reward, among pairs whose rewards differ; ties count half."""
    kappa: Kappa | None
    """None with one rater, or without pairs that all raters voted on."""
    left: Share | None
    """The share of votes for one side that went to the side shown first; far from 1/2, sides were not read alike."""
    foreign: int
    """Votes on pairs that the file does not hold. They do not count."""

    @property
    def votes(self) -> int:
        """Votes that count."""
        return sum(sum(counts.values()) - counts["skip"] for counts in self.raters.values())

    def row(self) -> dict[str, Any]:
        """Plain data for JSON."""
        row: dict[str, Any] = finite({"votes": self.votes, **asdict(self)})
        return row


def tally(votes: Votes, pairs: Sequence[Pair]) -> Tally:
    """Count the votes that stand."""
    known = {pair.id for pair in pairs if not pair.is_same}
    standings = {rater: _known(votes.of(rater), known) for rater in votes.raters()}
    cast = [vote for standing in standings.values() for vote in standing.valid.values()]
    sided = [vote for vote in cast if vote.vote in ("a", "b")]
    for_a = sum(vote.vote == "a" for vote in sided)
    for_left = sum(vote.vote == vote.left for vote in sided)
    at_random = all(map(is_random, standings.values()))
    return Tally(
        pairs=len(pairs),
        identical=len(pairs) - len(known),
        added=max((len(known) - vote.of for vote in cast if vote.of), default=0),
        waiting=len(known - {vote.pair for vote in cast}),
        raters={
            rater: {choice: sum(vote.vote == choice for vote in standing.valid.values()) for choice in CHOICES}
            for rater, standing in standings.items()
        },
        win_rate=win_rate(standings, pairs),
        decided=wilson(for_a / len(sided), len(sided)) if sided and at_random else None,
        agreement=reward_agreement(standings, pairs),
        kappa=_kappa(list(standings.values())),
        left=wilson(for_left / len(sided), len(sided)) if sided else None,
        foreign=sum(vote.pair not in known for vote in votes.lines),
    )


def _known(standing: Standing, known: set[str]) -> Standing:
    """The same without votes on pairs that are not known."""
    drawn, valid = (
        {pair: vote for pair, vote in votes.items() if pair in known} for votes in (standing.drawn, standing.valid)
    )
    return Standing(drawn, valid, tuple(pair for pair in standing.history if pair in known))


def _kappa(standings: Sequence[Standing]) -> Kappa | None:
    """Kappa over three categories: a, b, and neither. Raters whose votes are all skips are not there."""
    categories = [
        {
            pair: vote.vote if vote.vote in ("a", "b") else "neither"
            for pair, vote in one.valid.items()
            if vote.vote != "skip"
        }
        for one in standings
    ]
    categories = [one for one in categories if one]
    shared = [pair for pair in categories[0] if all(pair in one for one in categories)] if len(categories) > 1 else []
    if not shared:
        return None
    items = [[one[pair] for one in categories] for pair in shared]
    if len(categories) == 2:
        return Kappa("cohen", cohen([item[0] for item in items], [item[1] for item in items]), 2, len(shared))
    return Kappa("fleiss", fleiss(items), len(categories), len(shared))
