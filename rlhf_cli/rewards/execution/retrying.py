"""One source is asked for scores, again where there was trouble, and its own settings decide what a failure costs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rlhf_cli.errors import EXIT_REWARD, UserError
from rlhf_cli.rewards.execution.process import POLL_S, Misuse, RewardProcess, Trouble
from rlhf_cli.rewards.kinds import Part
from rlhf_cli.rewards.kinds.base import InProcess, Plain
from rlhf_cli.rewards.kinds.python import Python
from rlhf_cli.types import Message, PromptRow

LARGEST: Final = 1e18
"""Of a score's absolute value: its square is finite in float32."""
SHOWN: Final = 200
"""Characters of a completion that an error shows."""
OF_TRL: Final = ("prompts", "completions", "completion_ids")
"""What a function is given besides the data's columns; the last where the tokens are known."""


@dataclass(slots=True)
class Question:
    """The completions of one rollout, to be scored."""

    prompts: Sequence[PromptRow]
    """One a completion."""
    completions: Sequence[str]
    token_ids: Sequence[Sequence[int]] | None
    """Of each completion; None where there are texts alone."""
    seed: int
    """What the global generators of the function's process start from."""
    tick: Callable[[], None]
    """Called again and again while the function takes its time."""
    where: str
    """For the errors: the step."""


@dataclass(slots=True)
class Answer:
    """What one source said to a question."""

    scores: list[float] = field(default_factory=list)
    """One a completion; NaN where its prompt is to be left out."""
    failures: dict[int, str] = field(default_factory=dict)
    """The completions without a usable score of their own, and why."""
    retries: int = 0
    """Calls that were made again."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a completion has no usable score."""

    why: str
    alone: bool
    """Whether it is known to be this completion's, and not that of any beside it."""


class Asker:
    """Asks one source, whose settings stand under `key`. One in a process is to be opened first, and closed."""

    def __init__(self, source: Part, key: str, columns: Iterable[str], log: Path | None) -> None:
        self._source, self._key, self._log = source, key, log
        self._rules = source if isinstance(source, InProcess) else None
        self._columns = sorted(set(columns) - set(OF_TRL))
        self._process: RewardProcess | None = None
        self.name: Final = source.name if isinstance(source, Python) else f"{key}={source.kind}"
        self.sha256: str | None = None
        """Of the file with the user's function, once it is open; None for a source of ours."""

    def open(self) -> None:
        """Import the function, in a process of its own; raises UserError where that, or what it needs, is not there."""
        self._demand(self._source.needs)
        if isinstance(self._source, Plain):
            return
        where = f"{self._key}.function" if isinstance(self._source, Python) else self._key
        self._process = _process_of(self._source, self._key, self._log)
        try:
            about = self._process.start(lambda: None)
        except Trouble as error:
            cannot = "cannot be imported: it" if isinstance(self._source, Python) else "cannot be used:"
            what = f"{self.name} {cannot} {error}"
            raise UserError(what, where=where, fix=self._see(), exit_code=EXIT_REWARD) from error
        except Misuse as error:
            raise UserError(f"{self.name} {error}", where=where, exit_code=EXIT_REWARD) from error
        self.sha256 = about.sha256
        try:
            self._demand(name for name in about.needs if name not in OF_TRL)
        except UserError:
            self.close()
            raise

    def close(self) -> None:
        """End the function's process."""
        if self._process is not None:
            self._process.close()

    def ask(self, question: Question) -> Answer:
        """The scores; raises UserError (exit 4) for a failure that is to end the run, and for no list of scores."""
        given = Answer()
        try:
            for row, answer in enumerate(self._each(question, given)):
                if isinstance(answer, float):
                    given.scores.append(answer)
                    continue
                place = question.prompts[row].where
                about = f" for the completion {_shown(question.completions[row])}" if answer.alone else ""
                what = f"{self.name} {answer.why}{about}"
                if self._rules is None or self._rules.on_error == "stop":
                    places = (question.where, place) if answer.alone else (question.where,)
                    fix = f"{self._see()}, or leave such prompts out: {self._key}.on_error=mask" if self._rules else ""
                    raise UserError(what, where=", ".join(places), fix=fix, exit_code=EXIT_REWARD)
                given.scores.append(self._rules.error_value if self._rules.on_error == "value" else math.nan)
                given.failures[row] = f"{what} ({place})" if answer.alone else what
        except Misuse as error:
            what = f"{self.name} {error}"
            raise UserError(what, where=question.where, fix=error.fix, exit_code=EXIT_REWARD) from error
        return given

    def _demand(self, names: Iterable[str]) -> None:
        if unknown := [name for name in names if name not in self._columns]:
            raise UserError(
                f"{self.name} takes {', '.join(unknown)}, which the data does not have; "
                f"its columns: {', '.join(self._columns) or 'none but the prompt'}",
                where=f"{self._key}.function" if isinstance(self._source, Python) else self._key,
                exit_code=EXIT_REWARD,
            )

    def _each(self, question: Question, given: Answer) -> Iterator[float | _Failure]:
        """One answer a completion; where the whole batch has none, they are asked for one by one."""
        count = len(question.completions)
        answers: Iterable[float | _Failure | None]
        try:
            answers = self._persist(question, slice(count), given)
        except Trouble as trouble:
            if trouble.together or count == 1:
                answers = [_Failure(str(trouble), alone=count == 1)] * count
            else:
                answers = (self._alone(question, row, given) for row in range(count))
        for answer in answers:
            yield answer if isinstance(answer, _Failure) else _usable(answer)

    def _alone(self, question: Question, row: int, given: Answer) -> float | _Failure | None:
        try:
            return self._persist(question, slice(row, row + 1), given)[0]
        except Trouble as trouble:
            return _Failure(str(trouble), alone=True)

    def _persist(self, question: Question, rows: slice, given: Answer) -> Sequence[float | None]:
        """The source's own scores of some completions; asks again where there was trouble, and raises the last."""
        left = self._rules.retries if self._rules else 0
        while True:
            try:
                return self._scores(question, rows)
            except Trouble as trouble:
                if not left or trouble.after_s is None:
                    raise
                left, given.retries = left - 1, given.retries + 1
                _wait(trouble.after_s, question.tick)

    def _scores(self, question: Question, rows: slice) -> Sequence[float | None]:
        prompts, completions = question.prompts[rows], question.completions[rows]
        if isinstance(self._source, Plain):
            return self._source.score(prompts, completions)
        assert self._process is not None
        takes = self._process.start(question.tick).takes
        whole = {
            "prompts": [_plain(row.prompt) for row in prompts],
            "completions": [_answer(row.prompt, text) for row, text in zip(prompts, completions, strict=True)],
        }
        if question.token_ids is not None:
            whole["completion_ids"] = [list(ids) for ids in question.token_ids[rows]]
        columns = {name: [row.columns.get(name) for row in prompts] for name in self._columns}
        taken = {name: values for name, values in (whole | columns).items() if takes is None or name in takes}
        return self._process.call(taken, len(completions), question.seed, question.tick)

    def _see(self) -> str:
        return f"mend it (see {self._log.name})" if self._log else "mend it"


def _process_of(source: InProcess, key: str, log: Path | None) -> RewardProcess:
    """The process of a user's function, or of one that a factory of ours makes."""
    if not isinstance(source, Python):
        return RewardProcess(source.target, source.options(), source.timeout_s, log)
    file = source.find(key)
    module, _, function = source.function.rpartition(":")
    return RewardProcess(f"{file or module}:{function}", None, source.timeout_s, log)


def _wait(seconds: float, tick: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        tick()
        time.sleep(min(left, POLL_S))


def _usable(score: float | None) -> float | _Failure:
    if score is not None and abs(score) <= LARGEST:
        return float(score)
    limit = f" (the limit is {LARGEST:g})" if score is not None and math.isfinite(score) else ""
    return _Failure(f"gave {'None' if score is None else f'{score:g}'}{limit}", alone=True)


def _shown(text: str) -> str:
    whole = repr(text)
    return whole if len(whole) <= SHOWN else f"{whole[:SHOWN]}…"


def _plain(prompt: str | tuple[Message, ...]) -> Any:
    return prompt if isinstance(prompt, str) else [{"role": turn.role, "content": turn.content} for turn in prompt]


def _answer(prompt: str | tuple[Message, ...], completion: str) -> Any:
    return completion if isinstance(prompt, str) else [{"role": "assistant", "content": completion}]
