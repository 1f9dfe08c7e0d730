"""Two policies on the same prompts: every measure with its interval, and the paired difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean

from rlhf_cli.errors import bad_reward
from rlhf_cli.evaluation.attempts import majority_at_k, pass_at_k, sizes
from rlhf_cli.evaluation.diversity import distinct, repetition
from rlhf_cli.evaluation.intervals import Estimate, Share, estimate, share_of, wilson


@dataclass(frozen=True, slots=True)
class Answered:
    """The completions of one policy for one prompt; the lists have one value a completion."""

    rewards: Sequence[float]
    """Empty where there is no reward."""
    parts: Mapping[str, Sequence[float]]
    """Each part of a weighted reward, and `raw` where shaping changes the scores."""
    kl: Sequence[float]
    """Exact KL to the policy's own reference along the completion, at T = 1, in nats."""
    lengths: Sequence[int]
    truncated: Sequence[bool]
    texts: Sequence[str]
    answers: Sequence[str | None]
    """The final answers in the texts, for a majority."""


Side = Mapping[int, Answered]
"""By the number of the prompt; prompts with a completion that has no score are left out."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of a comparison: levels and the difference a - b, paired by prompt, with 95 % intervals."""

    name: str
    a: Estimate | Share
    """A share where each completion, or each choice of k of them, is one observation that is right or wrong."""
    b: Estimate | Share
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Sides:
    """Two policies compared on the prompts that both have scores for."""

    prompts: int
    samples: int
    left_out: int
    """Prompts that the reward has no score for, on one side at least."""
    win_rate: Share | None
    """The share of completions of a with a higher reward than one of b for the same prompt; equal ones count half,
    and so do equal texts, which a reward model may score a rounding apart. None without a reward."""
    measures: Sequence[Measure]


def compare_sides(a: Side, b: Side, prompts: int, beta: float | None) -> Sides:
    """Compare two policies that answered `prompts` prompts; `beta` weighs the KL in J, None leaves J out.

    Raises UserError (exit 4) where fewer than two prompts are in both.
    """
    both = sorted(a.keys() & b.keys())
    if len(both) < 2:
        what = f"{len(both)} of {prompts} prompts have a score for each of their completions"
        raise bad_reward(what, fix="mend the reward, or choose reward.on_error=value")
    rewards = [reward for side in (a, b) for n in both for reward in side[n].rewards]
    is_binary = all(reward in (0, 1) for reward in rewards)
    columns = [[_measure(side[n], beta, is_binary) for n in both] for side in (a, b)]
    samples, measures = len(a[both[0]].texts), []
    for name in columns[0][0]:
        values = [[row[name] for row in rows] for rows in columns]
        is_share = name.startswith(("truncated", "pass@", "majority@")) or (is_binary and name == "reward")
        a_level, b_level = (
            share_of(fmean(one), one, len(both) * samples) if is_share else estimate(one) for one in values
        )
        gaps = [x - y for x, y in zip(*values, strict=True)]
        measures.append(Measure(name, a_level, b_level, estimate(gaps)))
    return Sides(
        prompts=len(both),
        samples=samples,
        left_out=prompts - len(both),
        win_rate=wilson(fmean(_wins(a[n], b[n]) for n in both), len(both)) if rewards else None,
        measures=measures,
    )


def _measure(one: Answered, beta: float | None, is_binary: bool) -> dict[str, float]:
    """The measures of one prompt, by name; without a reward, J is -beta KL."""
    reward = {"reward": fmean(one.rewards)} if one.rewards else {}
    found = {} if beta is None else {"J": reward.get("reward", 0.0) - beta * fmean(one.kl)}
    found |= reward | {f"reward/{name}": fmean(part) for name, part in one.parts.items()}
    if is_binary:
        right = [reward == 1 for reward in one.rewards]
        found |= {f"pass@{k}": pass_at_k(right, k) for k in sizes(len(right)) if k > 1}
        found |= {f"majority@{k}": majority_at_k(one.answers, right, k) for k in sizes(len(right)) if k > 2}
    return found | {
        "kl": fmean(one.kl),
        "length": fmean(one.lengths),
        "truncated": fmean(one.truncated),
        **{f"distinct_{n}": distinct(one.texts, n) for n in (1, 2, 3)},
        "repetition": fmean(map(repetition, one.texts)),
    }


def _wins(a: Answered, b: Answered) -> float:
    """The share of the pairs of completions that a wins; of two that are the same text neither does, whatever a score.

    Samples of the same number share a random stream, so they are no pair, unless there are no others.
    """
    places = product(range(len(a.texts)), range(len(b.texts)))
    pairs = [(i, j) for i, j in places if i != j or len(a.texts) == 1]
    return fmean(0.5 if a.texts[i] == b.texts[j] else _beats(a.rewards[i], b.rewards[j]) for i, j in pairs)


def _beats(x: float, y: float) -> float:
    return (1 + (x > y) - (x < y)) / 2
