"""The metrics of a step, computed from its stages."""

from __future__ import annotations

from torch import Tensor

from rlhf_cli.functional.intervals import standard_error
from rlhf_cli.functional.masked import masked_mean
from rlhf_cli.types import Advantages


def measure(advantages: Advantages) -> dict[str, float]:
    """Metrics of one rollout; KL in nats, lengths in tokens.

    `objective` is mean reward - beta * mean exact KL, on the prompts of this step. `_se` is a standard error over
    prompts (where there is one only: over its completions).
    """
    scored, rollout = advantages.scored, advantages.scored.rollout
    mask, samples = rollout.completion_mask, rollout.batch.samples_per_prompt
    scores, kl, k1 = scored.scores, scored.exact_kl.sum(1), scored.kl.sum(1)
    groups = scores.view(-1, samples)
    return {
        "objective": _mean(scores) - scored.beta * _mean(kl),
        "reward/mean": _mean(scores),
        "reward/mean_se": _error(scores, samples),
        "reward/same_in_group": float((groups.amax(1) == groups.amin(1)).double().mean()) if samples > 1 else 0.0,
        "kl/seq": _mean(kl),
        "kl/seq_se": _error(kl, samples),
        "kl/seq_k1": _mean(k1),
        "kl/seq_k1_se": _error(k1, samples),
        "kl/tok": float(masked_mean(scored.exact_kl, mask)),
        "policy/entropy": float(masked_mean(scored.entropy, mask)),
        "advantage/rms": float(masked_mean(advantages.advantages.square(), mask).sqrt()),
        "completion/length": _mean(rollout.lengths),
        "completion/truncated": _mean(rollout.truncated),
        "beta": scored.beta,
        "temperature": rollout.temperature,
    }


def _error(values: Tensor, samples: int) -> float:
    prompts = values.double().view(-1, samples).mean(1)
    return standard_error((prompts if len(prompts) > 1 else values).tolist())


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
