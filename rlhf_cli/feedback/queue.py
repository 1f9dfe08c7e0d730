"""The pairs that a run leaves for people while it trains, and the metrics of their votes.

Training never waits: it reads what is there when a step ends. A vote changes metrics and the choice of an opponent
alone, never what is learnt, and a step that is done again reads the same votes (see readings.py).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rlhf_cli.errors import UserError, bad_disk
from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.evaluation.intervals import Share
from rlhf_cli.feedback.from_runs import name_of, rows_of_evaluations, step_of
from rlhf_cli.feedback.pairs import Pair, with_ids, write_rows
from rlhf_cli.feedback.preference import Row
from rlhf_cli.feedback.readings import Reading, end_last_line, odd_readings, read_readings, undone_files
from rlhf_cli.feedback.saying import share
from rlhf_cli.feedback.tally import Tally, tally
from rlhf_cli.feedback.votes import Vote, VoteFile, Votes
from rlhf_cli.paths import quoted, why_irregular
from rlhf_cli.plural import plural
from rlhf_cli.runs.folder import EVALUATIONS, FEEDBACK, QUEUE
from rlhf_cli.runs.logbook import JsonlLog
from rlhf_cli.runs.reading import read_evaluation
from rlhf_cli.schema import Opponent
from rlhf_cli.types import PromptRow

CHANCE: Final = 0.5
"""Agreement of people with a reward that says nothing about what they like."""

Lines = Mapping[str, Sequence[str]]
"""By the name of a file of pairs, lines of its votes."""


class Queue:
    """The pairs and votes of the run in the folder `run`, which has completed `step` steps.

    `held_out` are its prompts by number. Raises UserError where the file of readings is none.
    """

    def __init__(
        self, run: Path, held_out: Sequence[PromptRow], against: Opponent, step: int, note: Callable[[str], None]
    ) -> None:
        self._run, self._held_out, self._against, self._note = run, held_out, against, note
        self._former = read_readings(run)
        self._now = {number: reading for number, reading in self._former.items() if number <= step}
        self._reference: Evaluation | None = None
        self._rows: dict[str, list[Row]] = {}
        self._noted: set[str] = set()
        file = run / FEEDBACK / QUEUE
        if why := why_irregular(file) or ("a folder" if file.is_dir() else None):
            raise bad_disk(f"no file of readings: {why}", file, "move it away")
        file.parent.mkdir(exist_ok=True)
        end_last_line(file)
        for line in odd_readings(run):
            self._say(f"{line}; it stays, and does not count")
        self._log = JsonlLog(file)

    @property
    def command(self) -> str:
        """The command that asks for votes."""
        return f"rlhf label {quoted(self._run)}"

    def observe(self, step: int, evaluated: Evaluation | None) -> dict[str, float]:
        """Read the votes, and make pairs of the step's evaluation, if there is one; the metrics where either is new.

        Raises OSError where the disk refuses.
        """
        former = self._former.get(step)
        reading = self._read(step, evaluated, former.votes) if former is not None else None
        if is_new := reading is None or reading != former:
            reading = self._read(step, evaluated, self._new_votes())
        if reading.pairs is not None:
            write_rows(self._file(reading.pairs), self._rows[reading.pairs])
        if is_new:
            self._log.write(asdict(reading))
            self._former = {}  # later steps come out otherwise now
            self._note_undone(step)
        self._now[step] = reading
        return self._metrics() if reading.pairs or reading.votes else {}

    def waiting(self) -> int:
        """The pairs of the newest step that nobody had voted on when the run last read."""
        return int(self._metrics().get("human/waiting", 0))

    def sync(self) -> None:
        """Put the readings on disk; raises OSError where the disk refuses."""
        self._log.sync()

    def close(self) -> None:
        """Close the file of readings."""
        self._log.close()

    def _read(self, step: int, evaluated: Evaluation | None, votes: dict[str, list[str]]) -> Reading:
        """The reading of a step with these new votes; its pairs are known from here on, but not written."""
        if evaluated is None:
            return Reading(step, None, votes)
        other = self._evaluation(self._opponent(votes))
        if other is None:
            self._say(f"no pairs for people at step {step}: {EVALUATIONS} lacks the completions to compare with")
            return Reading(step, None, votes)
        try:
            name = name_of(evaluated, other)
            self._rows[name] = rows_of_evaluations(evaluated, other, self._held_out, self._run)
        except UserError as error:
            self._say(f"no pairs for people at step {step}: {error.what}")
            return Reading(step, None, votes)
        return Reading(step, name, votes)

    def _opponent(self, votes: Lines) -> int:
        """The step of the other side: 0, where the policy is the reference, or the newest step that has votes."""
        if self._against == "reference":
            return 0
        return max((step for step, name in self._names().items() if self._tally(name, votes).votes), default=0)

    def _names(self) -> dict[int, str]:
        """The names of the files of pairs by step."""
        return {step: reading.pairs for step, reading in self._now.items() if reading.pairs}

    def _new_votes(self) -> dict[str, list[str]]:
        """The lines that were not read before, by the file of their pairs."""
        new = {}
        for name in self._names().values():
            unread = Counter(self._lines(name, {}))
            unread.subtract(lines := self._lines_on_disk(name))
            if gone := (+unread).total():
                kept = "they count as they were read, changed ones once more as new ones"
                self._say(f"{plural(gone, 'vote')} of {name}.votes.jsonl changed or gone: {kept}")
            fresh = []
            for line in reversed(lines):  # of equal lines the last ones are new
                if unread[line] < 0:
                    unread[line] += 1
                    fresh.append(line)
            if fresh:
                new[name] = fresh[::-1]
        return new

    def _lines_on_disk(self, name: str) -> list[str]:
        """The whole lines that are votes. The last one, until it has an end, is read at a later step."""
        try:
            file = VoteFile(self._file(name)).file
            *lines, _ = file.read_bytes().split(b"\n") if file.exists() else [b""]
        except (UserError, OSError) as error:
            self._say(f"the votes on {name} cannot be read: {error}")
            return []
        for number, line in enumerate(lines, start=1):
            if line and Vote.parse(line) is None:
                self._say(f"{file.name}:{number}: no vote; it stays, and does not count")
        return [line.decode() for line in lines if Vote.parse(line) is not None]

    def _lines(self, name: str, more: Lines) -> list[str]:
        """The lines that were read of a file's votes, and `more`."""
        readings = [reading.votes for _, reading in sorted(self._now.items())]
        return [line for votes in (*readings, more) for line in votes.get(name, ())]

    def _tally(self, name: str, more: Lines) -> Tally:
        votes = [vote for line in self._lines(name, more) if (vote := Vote.parse(line)) is not None]
        found = tally(Votes(tuple(votes), ()), self._pairs(name))
        if found.foreign:
            self._say(f"{plural(found.foreign, 'line')} of {name}.votes.jsonl on pairs that are not asked: not counted")
        return found

    def _pairs(self, name: str) -> tuple[Pair, ...]:
        """The pairs of a file, from the evaluations: the file itself may have been changed."""
        if name not in self._rows:
            step, other = next((s, name.partition("-over-")[2][:8]) for s, n in self._names().items() if n == name)
            policy, opponent = self._evaluation(step), self._evaluation(int(other or 0))
            self._rows[name] = []
            if policy is not None and opponent is not None:
                self._rows[name] = rows_of_evaluations(policy, opponent, self._held_out, self._run)
            else:
                self._say(f"the votes of step {step} do not count: {EVALUATIONS} lacks the completions")
        return with_ids(self._rows[name])

    def _evaluation(self, step: int) -> Evaluation | None:
        if step:
            return read_evaluation(self._run, step)
        self._reference = self._reference or read_evaluation(self._run, 0)
        return self._reference

    def _metrics(self) -> dict[str, float]:
        """The pairs of the newest step that nobody voted on, and what the votes say on the newest step that has any."""
        names = self._names()
        if not names:
            return {}
        tallies = ((step, self._tally(names[step], {})) for step in sorted(names, reverse=True))
        step, found = next(tallies)
        metrics: dict[str, float] = {"human/waiting": found.waiting}
        while not found.votes:
            if (older := next(tallies, None)) is None:
                return metrics
            step, found = older
        metrics |= {"human/step": step, "human/votes": found.votes, **_interval("human/win_rate", found.win_rate)}
        if found.agreement is not None:
            metrics |= _interval("human/agreement", found.agreement)
            if found.agreement.high < CHANCE:
                self._say(f"people and the reward part: they agree on {share(found.agreement)} of step {step}'s pairs")
        if found.kappa is not None and found.kappa.value is not None:
            metrics["human/kappa"] = found.kappa.value
        return metrics

    def _note_undone(self, step: int) -> None:
        for file in undone_files(self._run):
            if step_of(file) == step and (count := len(self._lines_on_disk(file.stem))):
                what = f"step {step} was done again with other texts"
                self._say(f"{what}: {plural(count, 'vote')} left in {file.stem}.votes.jsonl, not counted")

    def _file(self, name: str) -> Path:
        return self._run / FEEDBACK / f"{name}.jsonl"

    def _say(self, text: str) -> None:
        """Note something once."""
        if text not in self._noted:
            self._noted.add(text)
            self._note(text)


def _interval(name: str, value: Share) -> dict[str, float]:
    return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
