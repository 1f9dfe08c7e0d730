"""The completions of all held-out prompts by two policies, ordered by how the reward changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, Self

from rlhf_cli.evaluation.evaluation import Evaluation

SHOWN: Final = 8
"""Completions of a prompt that a page shows of each side."""


@dataclass(frozen=True, slots=True)
class Side:
    """The completions of one policy for a prompt."""

    reward: float | None
    """Mean over its completions; None where there is no reward."""
    completions: Sequence[tuple[float | None, str]]
    """The first of them, each with its reward."""
    more: int
    """Completions that are not shown."""

    @classmethod
    def of(cls, rewards: Sequence[float], texts: Sequence[str]) -> Self:
        """The side of these completions and their rewards, if they have any."""
        each: Sequence[float | None] = rewards or [None] * len(texts)
        pairs = list(zip(each, texts, strict=True))
        return cls(fmean(rewards) if rewards else None, pairs[:SHOWN], len(pairs[SHOWN:]))


@dataclass(frozen=True, slots=True)
class Answers:
    """A held-out prompt, with its completions in the first and the last evaluation, or by two policies."""

    prompt: str
    before: Side
    after: Side

    @property
    def change(self) -> float | None:
        """Mean reward after less that before; None where there is no reward."""
        before, after = self.before.reward, self.after.reward
        return None if before is None or after is None else after - before


def answers_by_change(first: Evaluation | None, last: Evaluation | None, prompts: Sequence[str]) -> list[Answers]:
    """The prompts of both evaluations, the greatest rise of the reward first; `prompts` are their texts, if known."""
    if first is None or last is None:
        return []
    places = {number: place for place, number in enumerate(first.prompts)}
    found = [
        Answers(
            prompts[number] if number < len(prompts) else f"held-out prompt {number + 1}",
            Side.of(first.reward[places[number]], first.texts[places[number]]),
            Side.of(last.reward[place], last.texts[place]),
        )
        for place, number in enumerate(last.prompts)
        if number in places
    ]
    return by_change(found)


def by_change(answers: Sequence[Answers]) -> list[Answers]:
    """The greatest rise of the reward first; in their order where there is no reward."""
    return sorted(answers, key=lambda one: -(one.change or 0.0))
