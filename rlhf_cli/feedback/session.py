"""Ask one rater pair after pair, and write the votes down.

The next question is a pure function of the pairs, the rater's votes and the seed. So a reload, a kill or another
terminal goes on with the same pair, and sides do not change in between.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rlhf_cli.errors import UserError
from rlhf_cli.feedback.choice import Choose, Prediction, draw, informative
from rlhf_cli.feedback.pairs import Pair
from rlhf_cli.feedback.votes import Ballot, Choice, Side, Standing, Vote, VoteFile
from rlhf_cli.seeding import seed_for

LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Question:
    """A pair to vote on, as it is shown."""

    pair: Pair
    left: Side
    """The side that is shown first."""
    chance: float
    number: int
    """One more than the pairs that have a vote of this rater."""
    of: int

    @property
    def right(self) -> Side:
        """The side that is shown second."""
        return "b" if self.left == "a" else "a"


def check_name(rater: str) -> None:
    """Raise UserError (exit 2) for a name that is empty, too long or not printable."""
    if not rater.strip() or not rater.isprintable() or len(rater) > LONGEST_NAME:
        what = f"a rater's name is 1 to {LONGEST_NAME} printable characters"
        raise UserError(what, where="--rater", fix="--rater anna")


class Session:
    """One rater at one file of pairs."""

    def __init__(self, pairs: tuple[Pair, ...], votes: VoteFile, rater: str, choose: Choose, seed: int) -> None:
        check_name(rater)
        self.rater = rater
        self._asked = {pair.id: pair for pair in pairs if not pair.is_same}
        self._votes, self._choose, self._seed = votes, choose, seed

    def question(self) -> Question | None:
        """The next pair to vote on; None where every pair has a vote. Raises OSError where the disk refuses."""
        standing = self._votes.read().of(self.rater)
        number = sum(pair in standing.valid for pair in self._asked) + 1
        for pair in standing.taken_back:
            if pair in self._asked:
                return self._question(pair, standing.drawn[pair].chance, number)
        left = [pair for pair in self._asked if pair not in standing.drawn]
        if not left:
            return None
        chance = dict(zip(left, self._chances(left, standing), strict=True))
        pair = draw(chance, self._seed_of("label/choice", len(self._asked) - len(left)))
        return self._question(pair, chance[pair], number)

    def is_open(self, question: Question) -> bool:
        """Whether the pair has no vote yet. Raises OSError where the disk refuses."""
        return question.pair.id not in self._votes.read().of(self.rater).valid

    def answer(self, question: Question, choice: Choice, note: str = "") -> None:
        """Write a vote; it is on disk when this returns. Raises OSError where the disk refuses."""
        self._write(question.pair.id, choice, question.left, question.chance, note)

    def undo(self) -> bool:
        """Take the rater's newest vote back, so that its pair is asked again; False where there is none."""
        vote = self.newest()
        if vote is None:
            return False
        self._write(vote.pair, "undo", vote.left, vote.chance, "")
        return True

    def newest(self) -> Vote | None:
        """The rater's newest vote that stands."""
        standing = self._votes.read().of(self.rater)
        return next((standing.valid[pair] for pair in reversed(standing.history) if pair in self._asked), None)

    def asks_again(self) -> bool:
        """Whether a vote was taken back, and its pair is asked next."""
        return any(pair in self._asked for pair in self._votes.read().of(self.rater).taken_back)

    def _chances(self, left: Sequence[str], standing: Standing) -> list[float]:
        if self._choose == "random":
            return [1 / len(left)] * len(left)
        prediction = Prediction(list(self._asked.values()))
        for pair, vote in standing.valid.items():
            if pair in self._asked and vote.score is not None:
                prediction.learn(pair, vote.score)
        return informative(prediction.of(left))

    def _question(self, pair: str, chance: float, number: int) -> Question:
        left: Side = "a" if self._seed_of("label/side", int(pair, 16)) % 2 else "b"
        return Question(self._asked[pair], left, chance, number, len(self._asked))

    def _write(self, pair: str, what: Ballot, left: Side, chance: float, note: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._votes.append(Vote(now, self.rater, pair, what, left, chance, note, len(self._asked)))

    def _seed_of(self, stream: str, counter: int) -> int:
        name = int.from_bytes(hashlib.sha256(self.rater.encode()).digest()[:8], "little")
        return seed_for(self._seed, stream, name, counter)
