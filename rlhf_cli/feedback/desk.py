"""Ask one rater for votes on pairs: those of one file, or those that a run leaves step after step."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rlhf_cli.errors import UserError
from rlhf_cli.feedback.choice import Choose
from rlhf_cli.feedback.pairs import read_pairs
from rlhf_cli.feedback.session import Question, Session, check_name
from rlhf_cli.feedback.votes import Choice, VoteFile


class Desk:
    """One rater at files of pairs, the newest step first.

    `files` gives them by step, and `waiting` says what may still come: None where nothing will. A file that cannot be
    read is said to `note`, and passed over. Methods that read or write votes raise OSError where the disk refuses.
    Raises UserError (exit 2) for a rater without a name.
    """

    def __init__(
        self,
        files: Callable[[], Sequence[Path]],
        waiting: Callable[[], str | None],
        note: Callable[[str], None],
        rater: str,
        choose: Choose,
        seed: int,
    ) -> None:
        check_name(rater)
        self._files, self.waiting, self._note = files, waiting, note
        self._rater, self._choose, self._seed = rater, choose, seed
        self._opened: dict[Path, Session | None] = {}
        self._asking: Session | None = None
        self._voted: list[Session] = []  # vote after vote: the times of a clock that was set back say less

    def question(self) -> Question | None:
        """The next pair: one whose vote was taken back, or one of the newest step that has any left."""
        sessions = self._sessions()
        for session in sorted(sessions, key=lambda one: not one.asks_again()):
            if (question := session.question()) is not None:
                self._asking = session
                return question
        return None

    def is_open(self, question: Question) -> bool:
        """Whether the pair that was asked last has no vote yet."""
        assert self._asking is not None
        return self._asking.is_open(question)

    def answer(self, question: Question, choice: Choice, note: str = "") -> None:
        """Write the vote on the pair that was asked last."""
        assert self._asking is not None
        self._asking.answer(question, choice, note)
        self._voted.append(self._asking)

    def undo(self) -> bool:
        """Take back the vote that this desk took last; after those, the newest one, of whatever step."""
        newest = {one: vote.time for one in self._sessions() if (vote := one.newest())}
        while self._voted:
            if (last := self._voted.pop()) in newest:
                return last.undo()
        return bool(newest) and max(newest, key=newest.__getitem__).undo()

    def _sessions(self) -> list[Session]:
        """One session a file, the newest first."""
        files = self._files()[::-1]
        for file in files:
            if file not in self._opened:
                self._opened[file] = self._open(file)
        return [session for file in files if (session := self._opened[file]) is not None]

    def _open(self, file: Path) -> Session | None:
        try:
            return Session(read_pairs(file), VoteFile(file), self._rater, self._choose, self._seed)
        except UserError as error:
            self._note(f"{file.name} is passed over: {error.what}")
            return None
