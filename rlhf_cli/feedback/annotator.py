"""A simulated annotator: votes by a hidden reward, with noise and ties.

For completions with the rewards r_a and r_b, and d = (r_a - r_b) / noise, the votes are as probable as

    a : b : tie  =  exp(d / 2) : exp(-d / 2) : nu

the law of Bradley and Terry (1952) with the ties of Davidson (1970). Of two completions with equal rewards, the share
`ties` = nu / (2 + nu) of votes is a tie.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rlhf_cli.errors import bad_data
from rlhf_cli.feedback.pairs import Pair
from rlhf_cli.feedback.votes import Choice, Side, Vote, VoteFile
from rlhf_cli.seeding import seed_for

RATER: Final = "simulated"
STEEPEST: Final = 700.0
"""The largest difference of rewards, in units of the noise: beyond it a vote is certain anyway."""


@dataclass(frozen=True, slots=True)
class Annotator:
    """The noise and the ties of the annotator's votes."""

    noise: float
    """Above 0, in units of the reward: at such a difference, 73 % of the votes that are no ties go to the better."""
    ties: float
    """In [0, 1): share of ties among votes on equal rewards."""

    def chances(self, rewards: tuple[float, float]) -> tuple[float, float, float]:
        """The probabilities of a vote for a, for b, and of a tie."""
        d = max(-STEEPEST, min(STEEPEST, (rewards[0] - rewards[1]) / self.noise))
        weights = math.exp(d / 2), math.exp(-d / 2), 2 * self.ties / (1 - self.ties)
        whole = math.fsum(weights)
        return weights[0] / whole, weights[1] / whole, weights[2] / whole

    def vote(self, rewards: tuple[float, float], uniform: float) -> Choice:
        """The vote of a uniform number in [0, 1)."""
        for_a, for_b, _ = self.chances(rewards)
        return "a" if uniform < for_a else "b" if uniform < for_a + for_b else "tie"


def annotate(pairs: Sequence[Pair], votes: VoteFile, annotator: Annotator, seed: int) -> None:
    """Vote on every pair without a vote, in random order. A vote depends on the pair and the seed alone.

    Raises UserError (exit 3) for a pair without rewards, and OSError where the disk refuses.
    """
    voted = votes.read().of(RATER).valid
    left = [pair for pair in pairs if not pair.is_same and pair.id not in voted]
    while left:
        chance = 1 / len(left)
        pair = left.pop(seed_for(seed, "feedback/order", len(left)) % len(left))
        if pair.rewards is None:
            fix = "bring the file of pairs back, or begin in a new folder"
            raise bad_data("a pair without rewards", votes.file.name, fix)
        choice = annotator.vote(pair.rewards, seed_for(seed, "feedback/vote", int(pair.id, 16)) / 2**63)
        side: Side = "a" if seed_for(seed, "feedback/side", int(pair.id, 16)) % 2 else "b"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        votes.append(Vote(now, RATER, pair.id, choice, side, chance))
