"""The gradient of J by plain enumeration: every completion of every prompt, softmaxes of tables, and autograd.

This is the oracle of `verify-gradient`. It shares no function with the code that it judges: it lists the completions,
tempers and truncates the policy, shapes the scores and takes the KL by itself, in float64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Target:
    """The objective of a run, as plain numbers: the documented meaning of its settings."""

    beta: float
    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    clip: tuple[float, float] | None
    length_penalty: float
    penalty: float
    """Subtracted from the score of a cut completion."""
    ended_only: bool
    """Whether the objective is that of the completions that end: E[r | ended] - beta KL(policy | ended || ...)."""
    centre: float = 0.0
    """Subtracted from the shaped scores, where they are normalised."""
    unit: float = 1.0
    """The shaped scores are divided by it, where they are normalised."""


@dataclass(frozen=True, slots=True)
class Tables:
    """A small problem: P prompts, completions of at most L tokens out of V, of which the last one ends the text."""

    reference: Tensor
    """Logits [P, S, V], float64; state 0 is the empty text, and token v leads from state s to V s + 1 + v."""
    policy: Tensor
    """Logits [P, S, V], float64."""
    scores: Tensor
    """The score of each completion before shaping: [P, C], in the order of `texts`."""
    length: int

    @property
    def texts(self) -> list[tuple[int, ...]]:
        """All completions, in lexical order."""
        size = self.reference.shape[2]
        end = size - 1
        whole = [
            text
            for length in range(1, self.length + 1)
            for text in product(range(size), repeat=length)
            if end not in text[:-1] and (text[-1] == end or length == self.length)
        ]
        return sorted(whole)


def objectives(tables: Tables, policy: Tensor, target: Target) -> Tensor:
    """J of each prompt, [P], for a policy [P, S, V]; differentiable.

    The sets that truncation keeps are held as they are at `policy`.
    """
    size, texts = policy.shape[2], tables.texts
    ours = torch.log_softmax(_truncated(policy / target.temperature, target), -1)
    theirs = torch.log_softmax(tables.reference / target.temperature, -1)
    ended = torch.tensor([text[-1] == size - 1 for text in texts])
    shaped = _shaped(tables.scores, [len(text) for text in texts], ended, target)
    whole, reference = _of_texts(ours, texts, size), _of_texts(theirs, texts, size)
    possible = torch.isfinite(whole)
    if target.ended_only:
        possible = possible & ended
        whole = whole - torch.logsumexp(whole.masked_fill(~possible, -math.inf), 1, keepdim=True)
        reference = reference - torch.logsumexp(reference.masked_fill(~ended, -math.inf), 1, keepdim=True)
    mass = torch.where(possible, whole, -math.inf).exp()
    return (
        mass * ((shaped - target.centre) / target.unit - target.beta * torch.where(possible, whole - reference, 0.0))
    ).sum(1)


def gradient(tables: Tables, policy: Tensor, target: Target, weights: Tensor | None = None) -> Tensor:
    """The gradient of sum_p weights_p J_p at the policy, [P, S, V]; the weights are 1/P unless given."""
    table = policy.clone().requires_grad_()
    each = objectives(tables, table, target)
    total = each.mean() if weights is None else (weights * each).sum()
    return torch.autograd.grad(total, table)[0]


def spread(tables: Tables, target: Target) -> tuple[float, float]:
    """Mean and variance of the shaped scores of the policy's completions to learn from, over all prompts."""
    mass, shaped = _masses(tables, target)
    mass = mass / mass.sum()
    mean = (mass * shaped).sum()
    return float(mean), float((mass * (shaped - mean).square()).sum())


def group_weights(tables: Tables, target: Target, group: int, at_least: int, scale: Callable[[int], float]) -> Tensor:
    """The weight of each prompt's J in the expected gradient of the steps that learn: [P].

    A step has `group` completions of one prompt, all prompts equally often. Of n completions to learn from the gradient
    is scale(n) times that of J, and a step with fewer than `at_least` is skipped.
    """
    if not target.ended_only:
        return torch.full((len(tables.policy),), scale(group) / len(tables.policy), dtype=torch.float64)
    ends = _masses(tables, target)[0].sum(1)
    weights, learns = torch.zeros_like(ends), torch.zeros_like(ends)
    for number in range(at_least, group + 1):
        chance = math.comb(group, number) * ends**number * (1 - ends) ** (group - number)
        weights, learns = weights + chance * scale(number), learns + chance
    return weights / learns.sum()


def chances_of_differences(tables: Tables, target: Target, group: int) -> Tensor:
    """The chance of each prompt, [P], that `group` completions of it have different shaped scores."""
    mass, shaped = _masses(tables, target)
    alike = [
        sum(float(own[scores == score].sum()) ** group for score in scores.unique())
        for own, scores in zip(mass, shaped, strict=True)
    ]
    return 1 - torch.tensor(alike, dtype=torch.float64)


def _masses(tables: Tables, target: Target) -> tuple[Tensor, Tensor]:
    """The probability of each completion that is learned from, and its shaped score: [P, C] each."""
    size, texts = tables.policy.shape[2], tables.texts
    ended = torch.tensor([text[-1] == size - 1 for text in texts])
    ours = torch.log_softmax(_truncated(tables.policy / target.temperature, target), -1)
    mass = _of_texts(ours, texts, size).exp()
    mass = mass * ended if target.ended_only else mass
    return mass, _shaped(tables.scores, [len(text) for text in texts], ended, target)


def _of_texts(logprobs: Tensor, texts: list[tuple[int, ...]], size: int) -> Tensor:
    """Log-probabilities of whole completions, [P, C], from those of single tokens, [P, S, V]."""
    columns = []
    for text in texts:
        state, total = 0, logprobs.new_zeros(len(logprobs))
        for token in text:
            total, state = total + logprobs[:, state, token], size * state + 1 + token
        columns.append(total)
    return torch.stack(columns, 1)


def _truncated(logits: Tensor, target: Target) -> Tensor:
    """The logits with -inf for the tokens that top-k, top-p of the rest and min-p of the rest leave out."""
    keep = torch.zeros_like(logits, dtype=torch.bool)
    for place in product(*map(range, logits.shape[:-1])):
        chances = torch.softmax(logits[place], 0).tolist()
        order = sorted(range(len(chances)), key=lambda token: -chances[token])[: target.top_k]
        total, mass, kept = sum(chances[token] for token in order), 0.0, []
        for token in order:
            if mass >= target.top_p * total and target.top_p < 1:
                break
            kept.append(token)
            mass += chances[token]
        for token in kept:
            keep[(*place, token)] = chances[token] >= target.min_p * chances[kept[0]]
    return logits.masked_fill(~keep, -math.inf)


def _shaped(scores: Tensor, lengths: list[int], ended: Tensor, target: Target) -> Tensor:
    """Scores within the limits, less the penalties: [P, C]."""
    clipped = scores if target.clip is None else scores.clamp(*target.clip)
    tokens = torch.tensor(lengths, dtype=torch.float64)
    return clipped - target.length_penalty * tokens - target.penalty * (~ended)
