"""The results of a step's stages, each a frozen type that is built once, complete.

    PromptBatch -> Rollout -> Scored -> Advantages -> Minibatch, Forward -> LossResult

B = prompts x samples_per_prompt completions; row b belongs to prompt b // samples_per_prompt, so a group's rows are
neighbours. T = the longest completion of the batch; H = the width of the model. Tensors [B, T] are zero where
`completion_mask` is False.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Metrics = Mapping[str, float]
Tick = Callable[[], None]
"""A function that long work calls again and again: it shows progress, and raises where the work has to stop."""
Watch = Callable[["Tensor"], None]
"""A function that gets the tokens [B, t] of all completions, int64, after the t-th token; ended ones are padded."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat prompt."""

    role: str
    content: str | None
    """None where the turn has other keys in its place, such as tool_calls."""
    more: str = ""
    """All other keys, such as tool_calls, name and reasoning_content: a JSON object, or empty."""

    def as_dict(self) -> dict[str, Any]:
        """The turn as chat templates and reward functions take it."""
        return {"role": self.role, "content": self.content} | (json.loads(self.more) if self.more else {})


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One row of a prompt file."""

    prompt: str | tuple[Message, ...]
    columns: Mapping[str, Any]
    """The row's other columns, for the reward."""
    where: str
    """file:line"""

    @property
    def plain(self) -> str | list[dict[str, Any]]:
        """The prompt as plain data, as functions of TRL get it: a text, or a list of messages."""
        return self.prompt if isinstance(self.prompt, str) else [turn.as_dict() for turn in self.prompt]

    @property
    def shown(self) -> str:
        """The prompt as reports show it: its text, or the last turn of the chat."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[-1].content or self.prompt[-1].more


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, ready for the policy."""

    row: PromptRow
    text: str
    """The text that the policy reads, with the chat template applied."""
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """The prompts of one rollout and the random streams of their samples."""

    prompts: tuple[Prompt, ...]
    samples_per_prompt: int
    seeds: tuple[int, ...]
    """[B]: the seed of each completion's own stream of uniforms."""
    draws: tuple[tuple[int, float], ...] = ()
    """Each prompt's number among all of the run, and its weight in the loss; empty where all weigh the same."""

    def __post_init__(self) -> None:
        if len(self.seeds) != len(self):
            raise ValueError(f"{len(self.seeds)} seeds for {len(self)} completions")

    def __len__(self) -> int:
        return len(self.prompts) * self.samples_per_prompt

    def prompt_of(self, row: int) -> Prompt:
        """The prompt of completion `row`."""
        return self.prompts[row // self.samples_per_prompt]


@dataclass(frozen=True, slots=True)
class KeptSets:
    """The tokens that N positions could be sampled from; position i has `ids[offsets[i] : offsets[i + 1]]`.

    It takes four bytes a kept token, and no [N, V] tensor. `functional.truncation` makes and reads it.
    """

    ids: Tensor
    """int32, every position's token ids in ascending order."""
    offsets: Tensor
    """int64 [N + 1], from 0."""
    vocabulary: int
    """V, the number of tokens that there are."""

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class Rollout:
    """The completions of one batch, as the policy sampled them."""

    batch: PromptBatch
    tokens: Tensor
    """int64 [B, T], right-padded."""
    completion_mask: Tensor
    """bool [B, T]: True = counts. Built from the lengths, which include the end-of-text token."""
    logprobs: Tensor
    """float32 [B, T]: log-probabilities under the SAMPLING distribution: softmax(logits / temperature) over `kept`.

    They are the sampler's; `recompute_logprobs` replaces them with the trainer's.
    """
    hidden: Tensor
    """[B, T, H]: the hidden state that predicted each token; with it, the exact KL costs no second policy pass."""
    truncated: Tensor
    """bool [B]: cut at max_new_tokens."""
    texts: tuple[str, ...]
    temperature: float
    """0 means greedy decoding."""
    kept: KeptSets | None
    """A set for each position of `tokens[completion_mask]`, in that order; None where nothing was truncated."""

    @property
    def lengths(self) -> Tensor:
        """int64 [B], tokens."""
        return self.completion_mask.sum(1)


@dataclass(frozen=True, slots=True)
class Exact:
    """Figures that need the full distributions, in nats."""

    kl: Tensor
    """float32 [B, T]: KL(policy || reference) at each position."""
    entropy: Tensor
    """float32 [B, T]: entropy of the sampling distribution at each position."""


@dataclass(frozen=True, slots=True)
class Distance:
    """The distance of the policy from the reference on a rollout, in nats."""

    ref_logprobs: Tensor
    """float32 [B, T]: at the temperature of the policy's."""
    kl: Tensor
    """float32 [B, T]: k1 = logprobs - ref_logprobs, the sampled estimator."""
    exact: Exact | None
    """The figures over the whole vocabulary; None at steps that do not measure them (`exact_kl_every`)."""
    ref_hidden: Tensor | None
    """[B, T, H]: the reference's hidden states; None unless the loss needs them (kl=exact)."""
    slopes: tuple[Tensor, ...] = ()
    """[B, T, H] each: d log pi(token) / d hidden and, with `ref_hidden`, d KL / d hidden, at the policy's states that
    sampled. Empty unless the first update, whose weights are the same, takes them from here."""

    @property
    def sequence_kl(self) -> Tensor:
        """float32 [B]: KL(policy || reference) of each completion's tokens: exact where measured, else k1."""
        return (self.kl if self.exact is None else self.exact.kl).sum(1)


@dataclass(frozen=True, slots=True)
class Scored:
    """A rollout with its scores and its distance from the reference."""

    rollout: Rollout
    scores: Tensor
    """float32 [B], from the reward."""
    distance: Distance
    beta: float
    rewards: Tensor
    """float32 [B, T]: the KL penalty at every token, where `kl` puts it into the reward, plus the score at the last."""
    learnable: Tensor
    """bool [B]: the completions to learn from; the others are part of no baseline and of no loss."""
    values: Tensor | None = None
    """float32 [B, T]: the returns that the value head expects from each state on; None without a value head."""
    log_weights: Tensor | None = None
    """float32 [B]: log of the trainer's probability of each completion over the sampler's; None where the step did not
    compare them."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """float32 [B] each: more scores by name: those of a weighted reward's parts, and `raw` where shaping may change the
    scores."""
    failures: int = 0
    """The number of completions without a usable score, including those of prompts that were left out."""

    @property
    def returns(self) -> Tensor:
        """float32 [B]: the KL-penalised return of each completion."""
        return self.rewards.sum(1)


@dataclass(frozen=True, slots=True)
class Advantages:
    """The credit that each token gets."""

    scored: Scored
    advantages: Tensor
    """float32 [B, T]"""
    returns: Tensor | None = None
    """float32 [B, T]: the targets of the value head; None for algorithms without one."""


@dataclass(frozen=True, slots=True)
class Minibatch:
    """Some completions of one update. All later updates of the same rollout use the same values."""

    logprobs: Tensor
    """float32 [b, T]: under the policy that sampled them."""
    advantages: Tensor
    """float32 [b, T]"""
    weights: Tensor
    """float32 [b, T]: weight of each token in the loss, zero in the padding.

    They are computed over all completions of the update, so that microbatches do not change its gradient.
    """
    values: Tensor | None
    """float32 [b, T], as `Scored.values`."""
    returns: Tensor | None
    """float32 [b, T], as `Advantages.returns`."""


@dataclass(frozen=True, slots=True)
class Forward:
    """The same completions under the present policy; these tensors carry the gradient."""

    logprobs: Tensor
    """float32 [b, T]"""
    values: Tensor | None
    """float32 [b, T]; None without a value head."""


@dataclass(frozen=True, slots=True)
class LossResult:
    """A loss to differentiate, and its metrics."""

    loss: Tensor
    """Scalar: this minibatch's share of the update's loss; the shares add up to it."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Sums over this minibatch's tokens; the pipeline divides them by the number of tokens."""
