"""Score completions with a reward: ask its source, or the parts of a weighted one, then shape the scores."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from rlhf_cli.errors import bad_reward
from rlhf_cli.rewards.execution.retrying import LARGEST, RetryingSource, ScoreRequest
from rlhf_cli.rewards.kinds import SingleSource
from rlhf_cli.rewards.kinds.weighted import Weighted
from rlhf_cli.rewards.reward import Reward
from rlhf_cli.rewards.shaping import shape
from rlhf_cli.types import Rollout


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of some prompts' completions. A prompt with a completion that has no score is left out whole."""

    values: tuple[float, ...]
    """A finite score for each completion of the prompts that are kept, in their order."""
    left_out: frozenset[int]
    """The numbers of the prompts that are left out, from 0."""
    parts: Mapping[str, tuple[float, ...]]
    """More scores of the same completions, by name: each part of a weighted reward before it is weighted, and `raw`,
    the source's own scores where shaping may change them."""
    failures: int
    """Completions without a usable score of their own."""
    retries: int
    """Calls that were repeated."""
    first_failure: str | None
    """The reason of the first failure, in one line; None without failures."""


def join_scores(answers: Sequence[Scores], prompts: int) -> Scores:
    """The scores of several rollouts of so many prompts each, rollout after rollout."""
    return Scores(
        values=tuple(value for answer in answers for value in answer.values),
        left_out=frozenset(
            turn * prompts + number for turn, answer in enumerate(answers) for number in answer.left_out
        ),
        parts={name: tuple(value for answer in answers for value in answer.parts[name]) for name in answers[0].parts},
        failures=sum(answer.failures for answer in answers),
        retries=sum(answer.retries for answer in answers),
        first_failure=next((answer.first_failure for answer in answers if answer.first_failure is not None), None),
    )


class SourceScorer:
    """Scores of texts from a reward's source, before shaping. Use it inside `with`: the processes live as long.

    `columns` are those of the whole data. Functions print to the file `log` (None: nowhere).
    """

    def __init__(self, source: SingleSource | Weighted, columns: Iterable[str], log: Path | None) -> None:
        columns = set(columns)
        self._open, self._noted = ExitStack(), set[str]()
        if isinstance(source, Weighted):
            self._weights: Mapping[str, float] = source.weights
            self._sources = {
                name: RetryingSource(part, f"reward.parts.{name}", columns, log) for name, part in source.parts.items()
            }
        else:
            self._weights, self._sources = {"": 1.0}, {"": RetryingSource(source, "reward", columns, log)}

    @property
    def name(self) -> str:
        """The reward's name in messages."""
        return " + ".join(source.name for source in self._sources.values())

    @property
    def sha256(self) -> str | None:
        """Hash of the files with the user's functions, and of reward models; None where there are none."""
        hashes = [source.sha256 for source in self._sources.values() if source.sha256 is not None]
        if len(hashes) > 1:
            return hashlib.sha256(" ".join(hashes).encode()).hexdigest()
        return hashes[0] if hashes else None

    def take_notes(self) -> list[str]:
        """The notes on the sources and their texts since the last call."""
        new = [note for source in self._sources.values() for note in source.notes if note not in self._noted]
        self._noted |= set(new)
        return new

    def __enter__(self) -> Self:
        """Start the processes; raises UserError where one cannot start."""
        with ExitStack() as opened:
            for source in self._sources.values():
                opened.callback(source.close)
                source.open()
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self._open.close()

    def score_texts(self, request: ScoreRequest, samples_per_prompt: int) -> Scores:
        """Score texts; each `samples_per_prompt` neighbours belong to one prompt.

        Raises UserError (exit 4) as `RetryingSource.score` does.
        """
        answers = {name: source.score(request) for name, source in self._sources.items()}
        left_out = frozenset(
            row // samples_per_prompt
            for answer in answers.values()
            for row, score in enumerate(answer.scores)
            if score is None
        )
        parts = {
            name: tuple(
                score
                for row, score in enumerate(answer.scores)
                if score is not None and row // samples_per_prompt not in left_out
            )
            for name, answer in answers.items()
        }
        values = [
            sum(self._weights[name] * score for name, score in zip(parts, scores, strict=True))
            for scores in zip(*parts.values(), strict=True)
        ]
        _check_size(values, "the weighted sum of a completion's scores", "lower reward.weights", request.where)
        failures = {row: why for answer in reversed(answers.values()) for row, why in answer.failures.items()}
        return Scores(
            values=tuple(values),
            left_out=left_out,
            parts={name: scores for name, scores in parts.items() if name},
            failures=len(failures),
            retries=sum(answer.retries for answer in answers.values()),
            first_failure=failures[min(failures)] if failures else None,
        )


class Scorer(SourceScorer):
    """Scores of a rollout's completions, clipped and with penalties subtracted."""

    def __init__(self, reward: Reward, columns: Iterable[str], log: Path | None) -> None:
        super().__init__(reward.source, columns, log)
        self._reward = reward

    def score(self, rollout: Rollout, *, seed: int, tick: Callable[[], None], where: str) -> Scores:
        """Score a rollout; `seed`, `tick` and `where` are those of a `ScoreRequest`. Raises as `score_texts` does."""
        batch = rollout.batch
        rows, size = range(len(batch)), batch.samples_per_prompt
        own = self.score_texts(
            ScoreRequest(
                prompts=[batch.prompt_of(row).row for row in rows],
                completions=rollout.texts,
                token_ids=[
                    row[mask].tolist() for row, mask in zip(rollout.tokens, rollout.completion_mask, strict=True)
                ],
                seed=seed,
                tick=tick,
                where=where,
            ),
            size,
        )
        if not self._reward.has_shaping:
            return own
        kept = [row for row in rows if row // size not in own.left_out]
        lengths, truncated = rollout.lengths.tolist(), rollout.truncated.tolist()
        values = shape(own.values, [lengths[row] for row in kept], [truncated[row] for row in kept], self._reward)
        fix = "lower reward.length_penalty or reward.truncated_penalty"
        _check_size(values, "the score of a completion with its penalties", fix, where)
        return replace(own, values=tuple(values), parts={"raw": own.values, **own.parts})


def _check_size(values: Iterable[float], what: str, fix: str, where: str) -> None:
    """Raise UserError (exit 4) for a value that training cannot use: too large, or not a number."""
    for value in values:
        if not abs(value) <= LARGEST:
            raise bad_reward(f"{what} is {value:g} (the limit is {LARGEST:g})", where, fix)
