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
TRL_ARGUMENTS: Final = ("prompts", "completions", "completion_ids")
"""What a function is given besides the data's columns; the last where the tokens are known."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Completions to score, and how to ask for their scores."""

    prompts: Sequence[PromptRow]
    """The prompt of each completion."""
    completions: Sequence[str]
    token_ids: Sequence[Sequence[int]] | None
    """The tokens of each completion; None where only texts are known."""
    seed: int
    """Seeds the global random generators of the reward's process."""
    tick: Callable[[], None]
    """Called again and again while the reward takes its time."""
    where: str
    """The step, for error messages."""


@dataclass(slots=True)
class SourceScores:
    """The scores that one source gave."""

    scores: list[float | None] = field(default_factory=list)
    """A score for each completion; None leaves its prompt out."""
    failures: dict[int, str] = field(default_factory=dict)
    """Why a completion has no usable score of its own, by the number of the completion."""
    retries: int = 0
    """Calls that were repeated."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a completion has no usable score."""

    why: str
    is_located: bool
    """Whether this completion caused it; otherwise any completion of the same call may have."""


class RetryingSource:
    """Ask one source for scores, and again after a failure; `key` is where its settings stand.

    Open it before the first request, and close it in the end.
    """

    def __init__(self, source: Part, key: str, columns: Iterable[str], log: Path | None) -> None:
        self._source, self._key, self._log = source, key, log
        self._settings = source if isinstance(source, InProcess) else None
        self._columns = sorted(set(columns) - set(TRL_ARGUMENTS))
        self._process: RewardProcess | None = None
        self.name: Final = source.name if isinstance(source, Python) else f"{key}={source.kind}"
        self.sha256: str | None = None
        """Hash of the file with the user's function, known once it is open; None for a source of ours."""

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
            raise UserError(what, where=where, fix=self._advice(), exit_code=EXIT_REWARD) from error
        except Misuse as error:
            raise UserError(f"{self.name} {error}", where=where, exit_code=EXIT_REWARD) from error
        self.sha256 = about.sha256
        try:
            self._demand(name for name in about.needs if name not in TRL_ARGUMENTS)
        except UserError:
            self.close()
            raise

    def close(self) -> None:
        """End the function's process."""
        if self._process is not None:
            self._process.close()

    def score(self, request: ScoreRequest) -> SourceScores:
        """Score the completions.

        Raises UserError (exit 4) for a failure that `on_error` lets end the run, and where the source returns something
        else than a list of scores.
        """
        result = SourceScores()
        try:
            for row, score in enumerate(self._each(request, result)):
                result.scores.append(
                    self._replacement(request, row, score, result) if isinstance(score, _Failure) else score
                )
        except Misuse as error:
            what = f"{self.name} {error}"
            raise UserError(what, where=request.where, fix=error.fix, exit_code=EXIT_REWARD) from error
        return result

    def _replacement(self, request: ScoreRequest, row: int, failure: _Failure, result: SourceScores) -> float | None:
        """Note the failure; return the score that takes its place, or None to leave the prompt out."""
        place = request.prompts[row].where
        completion = f" for the completion {_shown(request.completions[row])}" if failure.is_located else ""
        what = f"{self.name} {failure.why}{completion}"
        if self._settings is None or self._settings.on_error == "stop":
            places = (request.where, place) if failure.is_located else (request.where,)
            fix = f"{self._advice()}, or leave such prompts out: {self._key}.on_error=mask" if self._settings else ""
            raise UserError(what, where=", ".join(places), fix=fix, exit_code=EXIT_REWARD)
        result.failures[row] = f"{what} ({place})" if failure.is_located else what
        return self._settings.error_value if self._settings.on_error == "value" else None

    def _demand(self, names: Iterable[str]) -> None:
        if unknown := [name for name in names if name not in self._columns]:
            raise UserError(
                f"{self.name} takes {', '.join(unknown)}, which the data does not have; "
                f"its columns: {', '.join(self._columns) or 'none but the prompt'}",
                where=f"{self._key}.function" if isinstance(self._source, Python) else self._key,
                exit_code=EXIT_REWARD,
            )

    def _each(self, request: ScoreRequest, result: SourceScores) -> Iterator[float | _Failure]:
        """One answer a completion; where the whole batch has none, they are asked for one by one."""
        count = len(request.completions)
        answers: Iterable[float | _Failure | None]
        try:
            answers = self._persist(request, slice(count), result)
        except Trouble as trouble:
            if trouble.together or count == 1:
                answers = [_Failure(str(trouble), is_located=count == 1)] * count
            else:
                answers = (self._alone(request, row, result) for row in range(count))
        for answer in answers:
            yield answer if isinstance(answer, _Failure) else _usable(answer)

    def _alone(self, request: ScoreRequest, row: int, result: SourceScores) -> float | _Failure | None:
        try:
            return self._persist(request, slice(row, row + 1), result)[0]
        except Trouble as trouble:
            return _Failure(str(trouble), is_located=True)

    def _persist(self, request: ScoreRequest, rows: slice, result: SourceScores) -> Sequence[float | None]:
        """The source's own scores of some completions; asks again where there was trouble, and raises the last."""
        left = self._settings.retries if self._settings else 0
        while True:
            try:
                return self._scores(request, rows)
            except Trouble as trouble:
                if not left or trouble.after_s is None:
                    raise
                left, result.retries = left - 1, result.retries + 1
                _wait(trouble.after_s, request.tick)

    def _scores(self, request: ScoreRequest, rows: slice) -> Sequence[float | None]:
        prompts, completions = request.prompts[rows], request.completions[rows]
        if isinstance(self._source, Plain):
            return self._source.score(prompts, completions)
        assert self._process is not None
        takes = self._process.start(request.tick).takes
        whole = {
            "prompts": [_plain(row.prompt) for row in prompts],
            "completions": [_answer(row.prompt, text) for row, text in zip(prompts, completions, strict=True)],
        }
        if request.token_ids is not None:
            whole["completion_ids"] = [list(ids) for ids in request.token_ids[rows]]
        columns = {name: [row.columns.get(name) for row in prompts] for name in self._columns}
        taken = {name: values for name, values in (whole | columns).items() if takes is None or name in takes}
        return self._process.call(taken, len(completions), request.seed, request.tick)

    def _advice(self) -> str:
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
    return _Failure(f"gave {'None' if score is None else f'{score:g}'}{limit}", is_located=True)


def _shown(text: str) -> str:
    whole = repr(text)
    return whole if len(whole) <= SHOWN else f"{whole[:SHOWN]}…"


def _plain(prompt: str | tuple[Message, ...]) -> Any:
    return prompt if isinstance(prompt, str) else [{"role": turn.role, "content": turn.content} for turn in prompt]


def _answer(prompt: str | tuple[Message, ...], completion: str) -> Any:
    return completion if isinstance(prompt, str) else [{"role": "assistant", "content": completion}]
