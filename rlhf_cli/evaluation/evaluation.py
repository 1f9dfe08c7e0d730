"""A held-out evaluation, its metrics, and the comparison of two."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from statistics import fmean
from typing import Any, Final, Self

from rlhf_cli.errors import bad_reward
from rlhf_cli.evaluation.diversity import distinct
from rlhf_cli.evaluation.intervals import Estimate, estimate, standard_error
from rlhf_cli.evaluation.optimum import Draw, Optimum, PromptDraws, optimum
from rlhf_cli.plural import plural
from rlhf_cli.settings import READ_STRICTLY

TEMPERATURE: Final = 1.0
"""Temperature of every evaluation."""
KL_DIGITS: Final = 6
"""Digits of a KL in nats behind the point that say something: the others are float32's rounding."""
LARGEST: Final = 1e100
"""A number above this magnitude is damage: a little more, and its square is infinite."""


def nats(kl: float) -> float:
    """A KL as it is shown: what is left of float32's rounding is no distance."""
    return round(kl, KL_DIGITS) + 0.0  # not -0


@dataclass(frozen=True, slots=True)
class Completions:
    """The completions that an optimum is estimated from: one list a prompt, with one value a completion."""

    reward: list[list[float]]
    logprob: list[list[float]]
    """Log-probability of the whole completion under the policy, nats."""
    ref_logprob: list[list[float]]
    """The same under the reference."""

    def draws(self) -> list[list[Draw]]:
        """The same completions, prompt by prompt."""
        prompts = zip(self.reward, self.logprob, self.ref_logprob, strict=True)
        return [[Draw(*values) for values in zip(*columns, strict=True)] for columns in prompts]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation; the fields from `reward` to `ref_logprob` hold one list a prompt, with one value a completion."""

    __pydantic_config__ = READ_STRICTLY

    step: int
    beta: float
    """Beta of the objective: the run's final beta, or a controller's present one, since its final one is unknown."""
    prompts: list[int]
    """Numbers of the held-out prompts; those with a completion without a score are left out."""
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
    """The same under the reference."""
    reference: Completions | None
    """The reference's own completions, of the same prompts and random streams; None where the optimum cannot be
    estimated from them."""
    optimum: Optimum

    @property
    def is_sound(self) -> bool:
        """Whether every prompt occurs once, all lists have values for it, and no number is too large.

        Only damage on disk makes an evaluation unsound.
        """
        columns = self.reward, self.kl, self.length, self.truncated, self.texts, self.logprob, self.ref_logprob
        shapes = {tuple(map(len, column)) for column in columns}
        numbers: list[list[float]] = [*self.reward, *self.kl, *self.logprob, *self.ref_logprob]
        return (
            0 < len({*self.prompts}) == len(self.prompts) == len(self.reward)
            and len(shapes) == 1
            and all(map(len, self.reward))
            and all(abs(value) < LARGEST for value in (self.beta, *chain(*numbers)))
        )

    def row(self) -> dict[str, Any]:
        """Plain data for evaluations.jsonl."""
        return asdict(self)

    def objective(self, beta: float) -> list[float]:
        """Mean of reward - beta KL over each prompt's completions."""
        return [fmean(r) - beta * fmean(k) for r, k in zip(self.reward, self.kl, strict=True)]

    def means(self) -> tuple[float, float]:
        """Mean reward and mean KL (nats) over prompts."""
        return fmean(_means(self.reward)), fmean(_means(self.kl))

    def of(self, prompts: Collection[int]) -> Self:
        """The evaluation of some of its prompts alone; `reference` and `optimum` stay those of all prompts."""
        places = [place for place, prompt in enumerate(self.prompts) if prompt in prompts]
        names = ("prompts", "reward", "kl", "length", "truncated", "texts", "logprob", "ref_logprob")
        kept: dict[str, Any] = {name: [getattr(self, name)[place] for place in places] for name in names}
        return replace(self, **kept)

    def metrics(self) -> dict[str, float]:
        """The metrics for metrics.jsonl; standard errors take a prompt as the independent unit."""
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
            "eval/completion/distinct_2": distinct([text for group in self.texts for text in group], 2),
        }
        return measured if self.optimum.percent is None else measured | {"eval/optimum": self.optimum.percent}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations of the same prompts: the levels of both, and the paired change, with 95 % intervals."""

    before: dict[str, Estimate]
    after: dict[str, Estimate]
    change: dict[str, Estimate]
    distinct_2: tuple[float, float]


def pair(before: Evaluation, after: Evaluation) -> tuple[Evaluation, Evaluation]:
    """Both evaluations, of the prompts alone that are in both."""
    both = {*before.prompts} & {*after.prompts}
    return before.of(both), after.of(both)


def compare(before: Evaluation, after: Evaluation) -> Comparison:
    """The change from `before` to `after`, paired by prompt; the objective of both has the beta of `after`.

    Raises UserError (exit 4) where fewer than two prompts are in both.
    """
    before, after = pair(before, after)
    if len(before.prompts) < 2:
        both = plural(len(before.prompts), "prompt")
        raise bad_reward(f"the first and the last evaluation share {both} with all completions scored")

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


def estimate_progress(
    policy: Completions, reference: Completions, kl: Sequence[Sequence[float]], beta: float, highest: float
) -> Optimum:
    """Estimate how much of the optimum's gain the policy has, from completions of policy and reference.

    `kl` is of the policy's completions, nats.
    """
    prompts = zip(reference.draws(), policy.draws(), _means(kl), strict=True)
    return optimum([PromptDraws(*prompt) for prompt in prompts], beta, highest)


def _means(groups: Sequence[Sequence[float]]) -> list[float]:
    return [fmean(group) for group in groups]
