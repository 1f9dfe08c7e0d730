"""What a held-out evaluation found, how far that is towards the optimum, and how two of them compare; plain data."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Any, Self

from rlhf_cli.errors import EXIT_REWARD, UserError
from rlhf_cli.evaluation.intervals import Estimate, estimate, standard_error
from rlhf_cli.evaluation.optimum import Draws, Optimum, PromptDraws, optimum
from rlhf_cli.settings import READ_STRICTLY


@dataclass(frozen=True, slots=True)
class Completions:
    """What the optimum is estimated from: one list a prompt, with one value a completion."""

    reward: list[list[float]]
    logprob: list[list[float]]
    """Log-probability of the whole completion under the policy, nats."""
    ref_logprob: list[list[float]]
    """And under the reference."""

    def draws(self) -> list[Draws]:
        """Prompt by prompt."""
        return [Draws(*columns) for columns in zip(self.reward, self.logprob, self.ref_logprob, strict=True)]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation; the fields from `reward` to `ref_logprob` hold one list a prompt, with one value a completion."""

    __pydantic_config__ = READ_STRICTLY

    step: int
    beta: float
    """The beta of the objective: the run's final one; of a controller, whose final one nobody knows, the present."""
    prompts: list[int]
    """The numbers of the held-out prompts all of whose completions have a score."""
    failures: int
    """Completions without a usable score."""
    reward: list[list[float]]
    kl: list[list[float]]
    """Exact KL(policy || reference) of each completion's positions, nats."""
    length: list[list[int]]
    """Tokens."""
    truncated: list[list[bool]]
    texts: list[list[str]]
    logprob: list[list[float]]
    """Log-probability of the whole completion under the policy, nats."""
    ref_logprob: list[list[float]]
    """And under the reference."""
    reference: Completions | None
    """The reference's own completions, at the same prompts and from the same streams; None where they would say nothing
    about the optimum."""
    optimum: Optimum

    def row(self) -> dict[str, Any]:
        """Plain data for evaluations.jsonl."""
        return asdict(self)

    def objective(self, beta: float) -> list[float]:
        """Mean of reward - beta KL over each prompt's completions."""
        return [fmean(r) - beta * fmean(k) for r, k in zip(self.reward, self.kl, strict=True)]

    def means(self) -> tuple[float, float]:
        """Reward and KL (nats), the mean over prompts."""
        return fmean(_means(self.reward)), fmean(_means(self.kl))

    def of(self, prompts: Collection[int]) -> Self:
        """The evaluation of some of its prompts alone, as far as it goes by prompt: all but `reference`, `optimum`."""
        places = [place for place, prompt in enumerate(self.prompts) if prompt in prompts]
        names = ("prompts", "reward", "kl", "length", "truncated", "texts", "logprob", "ref_logprob")
        kept: dict[str, Any] = {name: [getattr(self, name)[place] for place in places] for name in names}
        return replace(self, **kept)

    def metrics(self) -> dict[str, float]:
        """What metrics.jsonl shows; standard errors take a prompt as the independent unit."""
        reward, kl, objective = _means(self.reward), _means(self.kl), self.objective(self.beta)
        measured = {
            "eval/objective": fmean(objective),
            "eval/objective_se": standard_error(objective),
            "eval/reward/mean": fmean(reward),
            "eval/reward/se": standard_error(reward),
            "eval/reward/failures": self.failures,
            "eval/kl/seq": fmean(kl),
            "eval/kl/seq_se": standard_error(kl),
            "eval/completion/length": fmean(_means(self.length)),
            "eval/completion/truncated": fmean(_means(self.truncated)),
            "eval/completion/distinct_2": distinct_2([text for group in self.texts for text in group]),
        }
        return measured if self.optimum.percent is None else measured | {"eval/optimum": self.optimum.percent}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations of the same prompts: both levels, and the paired change with its 95 % interval."""

    before: dict[str, Estimate]
    after: dict[str, Estimate]
    change: dict[str, Estimate]
    distinct_2: tuple[float, float]


def compare(before: Evaluation, after: Evaluation) -> Comparison:
    """The change from `before` to `after`, paired by prompt; the objective of both has the beta of `after`.

    Raises UserError (exit 4) where fewer than two prompts are in both.
    """
    both = {*before.prompts} & {*after.prompts}
    if len(both) < 2:
        raise UserError(
            f"the first and the last evaluation have {len(both)} prompts in common whose completions were all scored",
            where="reward",
            exit_code=EXIT_REWARD,
        )
    before, after = before.of(both), after.of(both)

    def values(evaluation: Evaluation) -> dict[str, list[float]]:
        return {
            "reward": _means(evaluation.reward),
            "kl": _means(evaluation.kl),
            "objective": evaluation.objective(after.beta),
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


def towards_optimum(
    policy: Completions, reference: Completions, kl: Sequence[Sequence[float]], beta: float, highest: float
) -> Optimum:
    """How much of the optimum's gain the policy has, from completions of both; `kl` of the policy's, nats."""
    drawn = zip(reference.draws(), policy.draws(), _means(kl), strict=True)
    return optimum([PromptDraws(*prompt) for prompt in drawn], beta, highest)


def distinct_2(texts: Sequence[str]) -> float:
    """Distinct pairs of neighbouring words over all pairs (Li et al. 2016, arXiv:1510.03055); 0 where there is none."""
    pairs = [pair for text in texts for pair in _pairs(text.lower().split())]
    return len(set(pairs)) / max(len(pairs), 1)


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    return pairwise(words)


def _means(groups: Sequence[Sequence[float]]) -> list[float]:
    return [fmean(group) for group in groups]
