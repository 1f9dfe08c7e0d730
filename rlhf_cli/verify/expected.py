"""The expected update of a run's own algorithm on a small problem, from every possible step through the training code.

A step has one prompt and a group of its completions. Steps that differ in the order of the completions alone are one,
as probable as all of them. Each goes through the reward's shaping, the reading by reference and value head, the
algorithm's advantages and the update's loss and backward pass, as in training. Only the sampling is replaced, by a
list.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Final

import torch
from torch import Tensor, nn

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.data.order import PartSize
from rlhf_cli.engine.reading import measure_distance, read_values, unpack
from rlhf_cli.engine.tabular import TabularEngine
from rlhf_cli.functional.logprobs import log_softmax, token_logprobs
from rlhf_cli.functional.truncation import pack, sampling_mask
from rlhf_cli.pipeline.run import truncation
from rlhf_cli.pipeline.scoring import penalise, select_learnable, to_tensor
from rlhf_cli.prompts.headroom import Headroom
from rlhf_cli.ranks.gradient import accumulate_gradient
from rlhf_cli.ranks.rollouts import select_completions
from rlhf_cli.rewards.shaping import Spread, shape
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import Advantages, PromptBatch, Rollout, Scored
from rlhf_cli.verify.exact import Tables

SEEN = 10**9
"""Scores that a run with normalised scores has seen: their mean and spread have settled."""
PAST = RunningMean(100, 0.7)
"""Past returns of REINFORCE's running baseline: any number."""
SHOWN: Final = Headroom({0: 4.0, 1: 4.0}, {0: 1.0, 1: 8.0})
"""The estimates of a run with prompts=headroom, by which one prompt is drawn twice as often as the other."""

Chances = Sequence[tuple[float, float]]
"""For each prompt its share of the objective, and the probability that it is drawn with."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Expectations over all steps that are not skipped."""

    first: Tensor
    """Minus the gradient of the loss of a step's first update: [P, S, V]."""
    later: Tensor | None
    """The same for an update of the same rollout after the policy has moved along the first one; None unless asked."""
    moved: tuple[tuple[float, Tensor], ...]
    """The policies [P, S, V] at which the later update was taken, each with its probability."""
    steps: int
    """The number of different steps."""


class SmallPolicy(TabularEngine):
    """A table with a value head that reads logits, as that of a language model reads the states of its policy."""

    def __init__(self, tables: Tables, *, shared_trunk: bool) -> None:
        super().__init__(tables.reference, end=tables.reference.shape[2] - 1)
        self.logits.data = tables.policy.clone()
        self._shared = shared_trunk
        self.weight = nn.Parameter(torch.linspace(-0.5, 0.4, tables.reference.shape[2], dtype=torch.float64))

    def values(self, hidden: Tensor) -> Tensor:
        """Values [N] of hidden states [N, V + 1]: a linear layer on the logits."""
        trunk = hidden[..., :-1]
        return (trunk if self._shared else trunk.detach()) @ self.weight


def expect(
    config: RunConfig, tables: Tables, beta: float, temperature: float, spread: Spread, group: int, move: float | None
) -> Expected:
    """The expected update of steps of `group` completions; `move`: the length of the way to later updates."""
    engine = SmallPolicy(tables, shared_trunk=config.algorithm.shared_trunk)
    everything = list_completions(engine, config, temperature)
    scores = shape(
        tables.scores.flatten().tolist(), everything.lengths.tolist(), everything.truncated.tolist(), config.reward
    )
    mass = everything.logprobs.sum(1).exp()
    first, learns, later, moved = torch.zeros_like(tables.policy), 0.0, torch.zeros_like(tables.policy), []
    steps = 0
    drawn = SHOWN.chances([PartSize("", 1.0, len(engine.prompts))]) if config.prompts == "headroom" else None
    for probability, rows in every_step(mass, len(engine.prompts), group, drawn):
        rollout = take(everything, rows, drawn)
        scored = score_step(config, engine, rollout, [scores[row] for row in rows], beta, spread)
        if not bool(scored.learnable.any()):  # prompts=dynamic draws on, and a step with none is skipped
            continue
        steps += 1
        learns += probability
        advantages = config.algorithm.advantages(scored, PAST)
        gradient = gradient_of(config, engine, advantages)
        first += probability * gradient
        if move is not None:
            engine.logits.data = tables.policy + move * gradient
            moved.append((probability, engine.logits.data))
            later += probability * gradient_of(config, engine, advantages)
            engine.logits.data = tables.policy.clone()
    return Expected(
        first / learns,
        None if move is None else later / learns,
        tuple((probability / learns, policy) for probability, policy in moved),
        steps,
    )


def list_completions(engine: TabularEngine, config: RunConfig, temperature: float) -> Rollout:
    """Every completion of every prompt, with its probability under the run's temperature and truncation."""
    everything = engine.all_completions(temperature)
    mask, tokens = everything.completion_mask, everything.tokens
    unended = tokens.gather(1, everything.lengths.unsqueeze(1) - 1).squeeze(1) != engine.vocabulary - 1
    cut, kept = truncation(config), None
    with torch.no_grad():
        hidden = engine.hidden(everything, torch.arange(len(mask)))
        if cut.is_active:
            tempered = log_softmax(engine.head(hidden), temperature)
            kept = pack(sampling_mask(tempered, cut.top_k, cut.top_p, cut.min_p))
        logprobs = token_logprobs(hidden, tokens[mask], engine.head, temperature, kept)
    return replace(everything, logprobs=unpack(logprobs, mask), truncated=unended, kept=kept)


def every_step(
    mass: Tensor, prompts: int, group: int, drawn: Chances | None = None
) -> Iterator[tuple[float, list[int]]]:
    """The probability of each different step, and its rows in the list of completions.

    A prompt comes with the probability that it is `drawn` with; None: all equally often.
    """
    each = len(mass) // prompts
    for prompt in range(prompts):
        chance = 1 / prompts if drawn is None else drawn[prompt][1]
        possible = [row for row in range(prompt * each, (prompt + 1) * each) if float(mass[row]) > 0]
        for chosen in combinations_with_replacement(possible, group):
            orders = math.factorial(group) // math.prod(map(math.factorial, Counter(chosen).values()))
            yield orders * math.prod(float(mass[row]) for row in chosen) * chance, list(chosen)


def take(everything: Rollout, rows: list[int], drawn: Chances | None = None) -> Rollout:
    """These completions of one prompt as the rollout of a step, with the weight that the prompt is drawn with."""
    prompt, number = everything.batch.prompt_of(rows[0]), rows[0] // everything.batch.samples_per_prompt
    draws = () if drawn is None else ((number, drawn[number][0] / drawn[number][1]),)
    return select_completions(everything, rows, PromptBatch((prompt,), len(rows), tuple(range(len(rows))), draws))


def score_step(
    config: RunConfig, engine: TabularEngine, rollout: Rollout, scores: list[float], beta: float, spread: Spread
) -> Scored:
    """The rollout with its shaped scores, read by reference and value head."""
    size, values = len(rollout.batch), to_tensor(scores, rollout)
    learnable = select_learnable(config, rollout, values)
    distance = measure_distance(rollout, engine, size, lambda: None, keep_hidden=config.kl == "exact")
    return Scored(
        rollout=rollout,
        scores=values,
        distance=distance,
        beta=beta,
        rewards=penalise(config, rollout, values, learnable, distance, beta, spread),
        learnable=learnable,
        values=read_values(rollout, engine, size) if config.algorithm.needs_value else None,
    )


def gradient_of(config: RunConfig, engine: TabularEngine, advantages: Advantages) -> Tensor:
    """Minus the gradient of the loss of one update by all completions to learn from, at the engine's table."""
    rows = advantages.scored.learnable.nonzero().squeeze(1)
    accumulate_gradient(
        advantages,
        rows,
        config.algorithm,
        engine,
        kl=config.kl,
        max_new_tokens=config.max_new_tokens,
        microbatch_size=len(rows) if config.microbatch_size == "auto" else config.microbatch_size,
        tick=lambda: None,
    )
    found = engine.logits.grad
    assert found is not None
    engine.logits.grad = None
    return -found
