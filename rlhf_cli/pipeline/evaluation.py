"""What a held-out evaluation found, and how two of them compare; plain data, no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, Self

from rlhf_cli.functional.intervals import Estimate, estimate, standard_error


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation; every field but `step` and `beta` holds one list a prompt, with one value a completion."""

    step: int
    beta: float
    """The beta of the objective: the run's final one."""
    reward: list[list[float]]
    kl: list[list[float]]
    """Exact KL(policy || reference) of each completion's positions, nats."""
    length: list[list[int]]
    """Tokens."""
    truncated: list[list[bool]]
    texts: list[list[str]]

    @classmethod
    def read(cls, row: dict[str, Any]) -> Self:
        """An evaluation as `row()` wrote it."""
        return cls(**row)

    def row(self) -> dict[str, Any]:
        """Plain data for evaluations.jsonl."""
        return asdict(self)

    def objective(self) -> list[float]:
        """Mean of reward - beta KL over each prompt's completions."""
        return [fmean(r) - self.beta * fmean(k) for r, k in zip(self.reward, self.kl, strict=True)]

    def metrics(self) -> dict[str, float]:
        """What metrics.jsonl shows; standard errors take a prompt as the independent unit."""
        reward, kl, objective = _means(self.reward), _means(self.kl), self.objective()
        return {
            "eval/objective": fmean(objective),
            "eval/objective_se": standard_error(objective),
            "eval/reward/mean": fmean(reward),
            "eval/reward/se": standard_error(reward),
            "eval/kl/seq": fmean(kl),
            "eval/kl/seq_se": standard_error(kl),
            "eval/completion/length": fmean(_means(self.length)),
            "eval/completion/truncated": fmean(_means(self.truncated)),
            "eval/completion/distinct_2": distinct_2([text for group in self.texts for text in group]),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations of the same prompts: both levels, and the paired change with its 95 % interval."""

    before: dict[str, Estimate]
    after: dict[str, Estimate]
    change: dict[str, Estimate]
    distinct_2: tuple[float, float]


def compare(before: Evaluation, after: Evaluation) -> Comparison:
    """The change from `before` to `after`, paired by prompt."""

    def values(evaluation: Evaluation) -> dict[str, list[float]]:
        return {
            "reward": _means(evaluation.reward),
            "kl": _means(evaluation.kl),
            "objective": evaluation.objective(),
            "length": _means(evaluation.length),
        }

    old, new = values(before), values(after)
    changes = {name: [n - o for n, o in zip(new[name], old[name], strict=True)] for name in old}
    diversity = tuple(e.metrics()["eval/completion/distinct_2"] for e in (before, after))
    return Comparison(
        before={name: estimate(v) for name, v in old.items()},
        after={name: estimate(v) for name, v in new.items()},
        change={name: estimate(v) for name, v in changes.items()},
        distinct_2=(diversity[0], diversity[1]),
    )


def distinct_2(texts: Sequence[str]) -> float:
    """Distinct pairs of neighbouring words over all pairs (Li et al. 2016, arXiv:1510.03055); 0 where there is none."""
    pairs = [pair for text in texts for pair in _pairs(text.lower().split())]
    return len(set(pairs)) / max(len(pairs), 1)


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    return pairwise(words)


def _means(groups: Sequence[Sequence[float]]) -> list[float]:
    return [fmean(group) for group in groups]
