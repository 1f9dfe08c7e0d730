"""Whatever a reward does, scores that can be learned from come out, or an error that says why there are none."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from rlhf_cli.rewards.execution.retrying import Asker, Question
from rlhf_cli.rewards.kinds import Part
from rlhf_cli.rewards.kinds.weighted import Weighted
from rlhf_cli.types import PromptRow


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
    parts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Of a reward that adds several: the scores of each by its name, before they are weighted."""


class Judge:
    """Asks a reward, or the parts of a weighted one. What runs in a process does so inside `with` alone.

    `columns` are those of the whole data, `log` is where functions print to (None: nowhere).
    """

    def __init__(self, reward: Part | Weighted, columns: Iterable[str], log: Path | None) -> None:
        columns = set(columns)
        self._open = ExitStack()
        self._weights: Mapping[str, float] = {}
        self._askers: dict[str, Asker]
        if isinstance(reward, Weighted):
            self._weights = reward.weights
            self._askers = {
                name: Asker(part, f"reward.parts.{name}", columns, log) for name, part in reward.parts.items()
            }
        else:
            self._askers = {"": Asker(reward, "reward", columns, log)}

    @property
    def name(self) -> str:
        """What to call the reward."""
        return " + ".join(asker.name for asker in self._askers.values())

    @property
    def sha256(self) -> str | None:
        """Of the file with the user's function, or of the files with several; None for a reward of ours."""
        found = [asker.sha256 for asker in self._askers.values() if asker.sha256 is not None]
        return found[0] if len(found) == 1 else hashlib.sha256(" ".join(found).encode()).hexdigest() if found else None

    def __enter__(self) -> Self:
        """Set up what runs in processes of their own; raises UserError where that cannot be."""
        with ExitStack() as opened:
            for asker in self._askers.values():
                opened.callback(asker.close)
                asker.open()
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self._open.close()

    def score(
        self,
        prompts: Sequence[PromptRow],
        completions: Sequence[str],
        *,
        seed: int,
        group: int,
        tick: Callable[[], None],
        where: str,
        token_ids: Sequence[Sequence[int]] | None = None,
    ) -> Judged:
        """The scores of completions; `group` neighbours have their prompt in common.

        `seed` is what the global generators of a function's process start from, `tick` is called again and again
        while it takes its time, `where` is for the errors: the step, and `token_ids` is for functions that ask. Raises
        UserError (exit 4) for a result that is no list of scores, and for a completion without a usable score where
        that is to end the run.
        """
        question = Question(prompts, completions, token_ids, seed, tick, where)
        answers = {name: asker.ask(question) for name, asker in self._askers.items()}
        sums = [
            sum(self._weights.get(name, 1.0) * answer.scores[row] for name, answer in answers.items())
            for row in range(len(completions))
        ]
        left_out = {row // group for row, score in enumerate(sums) if math.isnan(score)}

        def drop_prompts(scores: Sequence[float]) -> tuple[float, ...]:
            return tuple(math.nan if row // group in left_out else score for row, score in enumerate(scores))

        failures = {row: why for answer in reversed(answers.values()) for row, why in answer.failures.items()}
        return Judged(
            scores=drop_prompts(sums),
            failures=len(failures),
            retries=sum(answer.retries for answer in answers.values()),
            first=failures[min(failures)] if failures else "",
            parts={name: drop_prompts(answer.scores) for name, answer in answers.items() if name},
        )
