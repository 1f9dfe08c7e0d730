"""Ask one source for scores, again after a failure; the source's own settings say how often, and what then."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rlhf_cli.errors import UserError, bad_reward
from rlhf_cli.rewards.columns import column_value, explain_value, has_column
from rlhf_cli.rewards.execution.messages import CallFailed, InvalidFunction
from rlhf_cli.rewards.execution.process import POLL_S, RewardProcess
from rlhf_cli.rewards.kinds import SingleSource
from rlhf_cli.rewards.kinds.base import IsolatedSource, PlainSource
from rlhf_cli.rewards.kinds.python import Python
from rlhf_cli.rewards.texts import quote
from rlhf_cli.types import PromptRow

LARGEST: Final = 1e18
"""The largest absolute value of a score: its square is finite in float32."""
_TEXTS: Final = frozenset(("completions", "completion_ids"))
"""The arguments of which a reward takes one at least."""
TRL_ARGUMENTS: Final = ("prompts", "completions", "completion_ids")
"""The arguments of a function that are no columns of the data; it gets the last where the tokens are known."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Completions to score, and how to ask for their scores."""

    prompts: Sequence[PromptRow]
    """The prompt of each completion."""
    completions: Sequence[str]
    token_ids: Sequence[Sequence[int]] | None
    """The tokens of each completion; None where only texts are known."""
    seed: int
    """For the global random generators of the reward's process."""
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
    """The reasons for which completions have no usable score of their own, by the number of the completion."""
    retries: int = 0
    """Calls that were repeated."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """The reason for which a completion has no usable score."""

    why: str
    is_located: bool
    """Whether this completion is known to have caused it; otherwise any completion of the call may have."""


class RetryingSource:
    """One source that is asked again after a failure; `key` is where its settings stand.

    Open it before the first request, and close it in the end.
    """

    def __init__(self, source: SingleSource, key: str, columns: Iterable[str], log: Path | None) -> None:
        self._source, self._key, self._log = source, key, log
        self._settings = source if isinstance(source, IsolatedSource) else None
        own = set(columns)
        self._columns = sorted(own - set(TRL_ARGUMENTS))
        self._process: RewardProcess | None = None
        self._is_users = isinstance(source, Python)
        self._where = f"{key}.function" if self._is_users else key
        self.name: Final = source.name if isinstance(source, Python) else f"{key}={source.kind}"
        hidden = ", ".join(name for name in TRL_ARGUMENTS if name in own)
        self._notes = [f"{key} does not get the column {hidden} of the data: the name is taken"] if hidden else []
        self.sha256: str | None = None
        """Hash of the user's function or of a reward model, known once it is open; None for another source."""

    def open(self) -> None:
        """Start the function's process; raises UserError where the import fails or a column it needs is missing."""
        self._require_columns(self._source.needs)
        if isinstance(self._source, PlainSource):
            return
        self._process = _process_of(self._source, self._key, self._log)
        try:
            info = self._process.start(lambda: None)
        except CallFailed as error:
            cannot = "cannot be imported: it" if self._is_users else "cannot be used:"
            what = f"{self.name} {cannot} {self._with_key(error)}"
            raise bad_reward(what, self._where, self._advice()) from error
        except InvalidFunction as error:
            raise bad_reward(f"{self.name} {error}", self._where) from error
        self.sha256 = info.sha256
        try:
            if self._is_users and info.takes is not None and not set(info.takes) & _TEXTS:
                # a stranger's settings could call subprocess:getoutput with a column `cmd` of the stranger's data
                what = f"{self.name} takes no completions, so that it cannot be a reward"
                raise bad_reward(what, self._where, "write def f(prompts, completions, **columns)")
            self._require_columns(name for name in info.needs if name not in TRL_ARGUMENTS)
            given = {*info.needs, *TRL_ARGUMENTS, *self._columns}
            lacking = ", ".join(name for name in info.takes or () if name not in given)
            if lacking and self._is_users:
                self._notes.append(f"{self.name} takes {lacking}, which the data does not have: the default is used")
        except UserError:
            self.close()
            raise

    @property
    def notes(self) -> list[str]:
        """Notes on the source and its texts up to now, a line each."""
        return [*self._notes, *(self._process.notes if self._process else ())]

    def close(self) -> None:
        """End the function's process."""
        if self._process is not None:
            self._process.close()

    def score(self, request: ScoreRequest) -> SourceScores:
        """Score the completions.

        Raises UserError (exit 4) where the source returns no list of scores, or fails under on_error=stop.
        """
        result = SourceScores()
        try:
            for row, score in enumerate(self._score_each(request, result)):
                result.scores.append(
                    self._replacement(request, row, score, result) if isinstance(score, _Failure) else score
                )
        except InvalidFunction as error:
            raise bad_reward(f"{self.name} {error}", request.where, error.fix) from error
        return result

    def _replacement(self, request: ScoreRequest, row: int, failure: _Failure, result: SourceScores) -> float | None:
        """Note the failure; return the score that takes its place, or None to leave the prompt out."""
        place = request.prompts[row].where
        completion = f" for the completion {quote(request.completions[row])}" if failure.is_located else ""
        named = (name for name in self._source.needs if has_column(request.prompts[row].columns, name))
        wrong = next(filter(None, (explain_value(self._source, name, request.prompts[row]) for name in named)), None)
        why = f"has no score, since {wrong}" if wrong else f"{self._with_key(failure.why)}{completion}"
        what = f"{self.name} {why}"
        if self._settings is None or self._settings.on_error == "stop":
            places = (request.where, place) if failure.is_located else (request.where,)
            fix = f"{self._advice()}, or leave such prompts out: {self._key}.on_error=mask" if self._settings else ""
            raise bad_reward(what, ", ".join(places), fix)
        result.failures[row] = f"{what} ({place})" if failure.is_located else what
        return self._settings.error_value if self._settings.on_error == "value" else None

    def _require_columns(self, names: Iterable[str]) -> None:
        if unknown := [name for name in names if not has_column(self._columns, name)]:
            known = ", ".join(self._columns) or "none but the prompt"
            what = f"{self.name} takes {', '.join(unknown)}, which the data does not have; its columns: {known}"
            raise bad_reward(what, self._where, self._source.fix_of_columns.format(key=self._key))

    def _score_each(self, request: ScoreRequest, result: SourceScores) -> Iterator[float | _Failure]:
        """Score all completions in one call; if one of them makes it fail, score them one by one."""
        count = len(request.completions)
        scores: Iterable[float | _Failure | None]
        try:
            scores = self._score_with_retries(request, slice(count), result)
        except CallFailed as error:
            if error.is_batch_wide or count == 1:
                scores = [_Failure(str(error), is_located=count == 1)] * count
            else:
                scores = (self._score_alone(request, row, result) for row in range(count))
        for score in scores:
            yield score if isinstance(score, _Failure) else _check_usable(score)

    def _score_alone(self, request: ScoreRequest, row: int, result: SourceScores) -> float | _Failure | None:
        try:
            return self._score_with_retries(request, slice(row, row + 1), result)[0]
        except CallFailed as error:
            return _Failure(str(error), is_located=True)

    def _score_with_retries(self, request: ScoreRequest, rows: slice, result: SourceScores) -> Sequence[float | None]:
        """Ask for the scores of some completions; raises CallFailed after the last try."""
        left = self._settings.retries if self._settings else 0
        while True:
            try:
                return self._score_once(request, rows)
            except CallFailed as error:
                if not left or error.retry_after_s is None:
                    raise
                left, result.retries = left - 1, result.retries + 1
                _wait(error.retry_after_s, request.tick)

    def _score_once(self, request: ScoreRequest, rows: slice) -> Sequence[float | None]:
        prompts, completions = request.prompts[rows], request.completions[rows]
        if isinstance(self._source, PlainSource):
            return self._source.score(prompts, completions)
        assert self._process is not None
        takes = self._process.start(request.tick).takes
        arguments: dict[str, list[Any]] = {
            "prompts": [row.plain for row in prompts],
            "completions": [
                text if isinstance(row.prompt, str) else [{"role": "assistant", "content": text}]
                for row, text in zip(prompts, completions, strict=True)
            ],
        }
        if request.token_ids is not None:
            arguments["completion_ids"] = [list(ids) for ids in request.token_ids[rows]]
        arguments |= {name: [row.columns.get(name) for row in prompts] for name in self._columns}
        arguments |= {name: [column_value(row.columns, name) for row in prompts] for name in self._source.needs}
        taken = {name: values for name, values in arguments.items() if takes is None or name in takes}
        return self._process.call(taken, len(completions), request.seed, request.tick)

    def _with_key(self, why: object) -> str:
        """The text with the settings by their own keys: the process knows none but those of a single reward."""
        return str(why).replace("(reward.", f"({self._key}.")

    def _advice(self) -> str:
        return f"mend it (see {self._log.name})" if self._log else "mend it"


def _process_of(source: IsolatedSource, key: str, log: Path | None) -> RewardProcess:
    """The process of the user's function, or of the function that a built-in factory makes."""
    if not isinstance(source, Python):
        return RewardProcess(source.factory, source.model_dump(mode="json"), source.timeout_s, log)
    file = source.find_file(key)
    module, _, function = source.function.rpartition(":")
    return RewardProcess(f"{file or module}:{function}", None, source.timeout_s, log)


def _wait(seconds: float, tick: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        tick()
        time.sleep(min(left, POLL_S))


def _check_usable(score: float | None) -> float | _Failure:
    if score is not None and abs(score) <= LARGEST:
        return float(score)
    limit = f" (the limit is {LARGEST:g})" if score is not None and math.isfinite(score) else ""
    return _Failure(f"gave {'None' if score is None else f'{score:g}'}{limit}", is_located=True)
