"""Whatever a reward does, a score that can be learned from comes out, or an error that says why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rlhf_cli.errors import EXIT_REWARD, UserError
from rlhf_cli.rewards import Reward
from rlhf_cli.rewards.failure import MayFail
from rlhf_cli.rewards.process import Misuse, RewardProcess, Trouble
from rlhf_cli.rewards.python import Python
from rlhf_cli.types import Message, PromptRow

LARGEST: Final = 1e18
"""Of a score's absolute value: its square is finite in float32."""
SHOWN: Final = 200
"""Characters of a completion that an error shows."""
REWARD_LOG: Final = "reward.log"
"""In a run's folder: what the user's function prints."""
OF_TRL: Final = ("prompts", "completions")


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of the completions of one rollout."""

    scores: tuple[float, ...]
    """One a completion; NaN for all of a prompt that is to be left out."""
    failures: int
    """Completions without a usable score of their own."""
    retries: int
    """Calls that were made again."""
    first: str
    """What was wrong with the first of the failures, in one line; empty where there were none."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a completion has no usable score."""

    why: str
    alone: bool
    """Whether it is known to be this completion's, and not that of any beside it."""


@dataclass(slots=True)
class _Question:
    """The completions of one rollout, on their way through the reward."""

    prompts: Sequence[PromptRow]
    completions: Sequence[str]
    seed: int
    tick: Callable[[], None]
    retries: int = 0


class Judge:
    """Asks a reward, and does what its settings say where it fails. A reward of the user's runs inside `with` alone.

    `columns` are those of the whole data, `log` is where the user's function prints to (None: nowhere).
    """

    def __init__(self, reward: Reward, columns: Iterable[str], log: Path | None) -> None:
        self._reward = reward
        self._rules = reward if isinstance(reward, MayFail) else None
        self._columns = sorted(set(columns) - set(OF_TRL))
        self._log = log
        self._process: RewardProcess | None = None
        self.sha256: str | None = None
        """Of the file with the user's function, once it is open; None for a reward of ours."""

    @property
    def highest(self) -> float:
        """The highest score there is, infinity where nobody knows."""
        return self._reward.highest

    @property
    def name(self) -> str:
        """What to call the reward."""
        return self._reward.name if isinstance(self._reward, Python) else f"reward={self._reward.kind}"

    def __enter__(self) -> Self:
        """Import the user's function, in a process of its own; raises UserError where that cannot be."""
        if not isinstance(self._reward, Python):
            return self
        file = self._reward.find()
        module, _, function = self._reward.function.rpartition(":")
        self._process = RewardProcess(f"{file or module}:{function}", self._reward.timeout_s, self._log)
        try:
            about = self._process.start(lambda: None)
        except Trouble as error:
            what = f"{self.name} cannot be imported: it {error}"
            raise UserError(what, where="reward.function", fix=self._see(), exit_code=EXIT_REWARD) from error
        except Misuse as error:
            raise UserError(f"{self.name} {error}", where="reward.function", exit_code=EXIT_REWARD) from error
        self.sha256 = about.sha256
        if unknown := [name for name in about.needs if name not in (*OF_TRL, *self._columns)]:
            self._process.close()
            raise UserError(
                f"{self.name} takes {', '.join(unknown)}, which the data does not have; "
                f"its columns: {', '.join(self._columns) or 'none but the prompt'}",
                where="reward.function",
                exit_code=EXIT_REWARD,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the function's process."""
        if self._process is not None:
            self._process.close()

    def score(
        self,
        prompts: Sequence[PromptRow],
        completions: Sequence[str],
        *,
        seed: int,
        group: int,
        tick: Callable[[], None],
        where: str,
    ) -> Judged:
        """The scores of completions; `group` neighbours have their prompt in common.

        `seed` is what the global generators of the function's process start from, `tick` is called again and again
        while the function takes its time, and `where` is for the errors: the step. Raises UserError (exit 4) for a
        result that is no list of scores, and for a completion without a usable score where that is to end the run.
        """
        question, scores, failures = _Question(prompts, completions, seed, tick), list[float](), dict[int, str]()
        try:
            for row, answer in enumerate(self._each(question)):
                if isinstance(answer, float):
                    scores.append(answer)
                    continue
                place = prompts[row].where
                about = f" for the completion {_shown(completions[row])}" if answer.alone else ""
                what = f"{self.name} {answer.why}{about}"
                if self._rules is None or self._rules.on_error == "stop":
                    places = (where, place) if answer.alone else (where,)
                    fix = f"{self._see()}, or leave such prompts out: reward.on_error=mask" if self._rules else ""
                    raise UserError(what, where=", ".join(places), fix=fix, exit_code=EXIT_REWARD)
                scores.append(self._rules.error_value if self._rules.on_error == "value" else math.nan)
                failures[row] = f"{what} ({place})" if answer.alone else what
        except Misuse as error:
            raise UserError(f"{self.name} {error}", where=where, fix=error.fix, exit_code=EXIT_REWARD) from error
        left_out = {row // group for row, score in enumerate(scores) if math.isnan(score)}
        return Judged(
            scores=tuple(math.nan if row // group in left_out else score for row, score in enumerate(scores)),
            failures=len(failures),
            retries=question.retries,
            first=next(iter(failures.values()), ""),
        )

    def _each(self, question: _Question) -> Iterator[float | _Failure]:
        """One answer a completion; where the whole batch has none, they are asked for one by one."""
        count = len(question.completions)
        answers: Iterable[float | _Failure | None]
        try:
            answers = self._persist(question, slice(count))
        except Trouble as trouble:
            if trouble.hung or count == 1:
                answers = [_Failure(str(trouble), alone=count == 1)] * count
            else:
                answers = (self._alone(question, row) for row in range(count))
        for answer in answers:
            yield answer if isinstance(answer, _Failure) else _usable(answer)

    def _alone(self, question: _Question, row: int) -> float | _Failure | None:
        try:
            return self._persist(question, slice(row, row + 1))[0]
        except Trouble as trouble:
            return _Failure(str(trouble), alone=True)

    def _persist(self, question: _Question, rows: slice) -> Sequence[float | None]:
        """The reward's own scores of some completions; asks again where there was trouble, and raises the last."""
        left = self._rules.retries if self._rules else 0
        while True:
            try:
                return self._scores(question, question.prompts[rows], question.completions[rows])
            except Trouble:
                if not left:
                    raise
                left, question.retries = left - 1, question.retries + 1

    def _scores(
        self, question: _Question, prompts: Sequence[PromptRow], completions: Sequence[str]
    ) -> Sequence[float | None]:
        if not isinstance(self._reward, Python):
            return self._reward.score(prompts, completions)
        assert self._process is not None
        takes = self._process.start(question.tick).takes
        whole = {
            "prompts": [_plain(row.prompt) for row in prompts],
            "completions": [_answer(row.prompt, text) for row, text in zip(prompts, completions, strict=True)],
        }
        columns = {name: [row.columns.get(name) for row in prompts] for name in self._columns}
        taken = {name: values for name, values in (whole | columns).items() if takes is None or name in takes}
        return self._process.call(taken, len(completions), question.seed, question.tick)

    def _see(self) -> str:
        return f"mend it (see {self._log.name})" if self._log else "mend it"


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
