"""The documented gradient of an algorithm: its size, and each setting that biases it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from rlhf_cli.schema import RunConfig


@dataclass(frozen=True, slots=True)
class Cause:
    """A setting that is known to bias the gradient."""

    key: str
    """The setting, dotted."""
    unbiased: Any
    """The value that has no such bias."""
    meaning: str
    """The effect, in one clause."""
    page: str
    """The page of the documentation that says so."""


TOKENS: Final = "docs/algorithms/README.md#how-tokens-are-combined"
PPO: Final = "docs/algorithms/ppo.md#what-biases-it"
LATER: Final = Cause(
    "algorithm.epochs",
    1,
    "later updates of a rollout learn from completions of an older policy, and clipping stops some of their tokens",
    PPO,
)


def find_causes(config: RunConfig, beta: float) -> Iterator[Cause]:
    """Yield the settings that bias the gradient of a rollout's first update; `beta` is the weight of the KL."""
    a = config.algorithm
    if a.kind == "grpo" and a.scale_by_std:
        what = "dividing by a group's spread weighs prompts and groups by 1 / spread"
        yield Cause("algorithm.scale_by_std", False, what, "docs/algorithms/grpo.md")
    if a.aggregation == "sequence_mean":
        what = "dividing by a completion's own length favours short good and long bad completions"
        yield Cause("algorithm.aggregation", "sum", what, TOKENS)
    if a.aggregation == "token_mean":
        yield Cause("algorithm.aggregation", "sum", "the mean over all tokens is a ratio of two random sums", TOKENS)
    if config.kl == "loss_k2" and beta > 0:
        what = "k2 of each token leaves out its effect on the KL of later ones"
        yield Cause("kl", "reward", what, "docs/algorithms/README.md#where-the-kl-goes")
    if config.prompts == "dynamic" and beta > 0:
        what = "groups with one score are left out, and with them their gradient of the KL"
        yield Cause("prompts", "uniform", what, "docs/data.md#dynamic-sampling")
    if a.kind != "ppo":
        return
    if a.gae_lambda < 1:
        what = "the value head stands for a part of the return, with its errors"
        yield Cause("algorithm.gae_lambda", 1.0, what, PPO)
    if a.gamma < 1:
        yield Cause("algorithm.gamma", 1.0, "a discount is another objective than J", PPO)
    if a.whiten:
        yield Cause("algorithm.whiten", False, "whitening shifts and scales by figures of the rollout itself", PPO)
    if a.shared_trunk and a.vf_coef > 0:
        yield Cause("algorithm.shared_trunk", False, "the value loss trains the adapter too", PPO)


def several_updates(config: RunConfig) -> bool:
    """Whether a rollout is used for more than one update."""
    completions = config.prompts_per_step * config.samples_per_prompt
    return config.algorithm.epochs > 1 or (config.algorithm.minibatch_size or completions) < completions


def scale_of(config: RunConfig, completions: int) -> float:
    """The size of the gradient of a step that learns from so many completions, where J's is 1."""
    a, scale = config.algorithm, 1.0
    if a.kind == "grpo" or (a.kind == "reinforce" and a.baseline == "mean"):
        scale = (completions - 1) / completions  # its mean holds the completion itself
    return scale / config.max_new_tokens if a.aggregation == "constant" else scale


def change(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    """The config with other values of these dotted keys, validated again."""
    fields = config.model_dump()
    for key, value in changes.items():
        *groups, name = key.split(".")
        place = fields
        for group in groups:
            place = place[group]
        place[name] = value
    return RunConfig.model_validate(fields)
