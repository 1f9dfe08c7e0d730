"""The metrics of a step, computed from its stages."""

from __future__ import annotations

import math

from torch import Tensor

from rlhf_cli.evaluation.intervals import standard_error
from rlhf_cli.functional.masked import masked_mean, masked_sum
from rlhf_cli.functional.mismatch import measure_cut, measure_mismatch
from rlhf_cli.types import Advantages, Exact


def measure(advantages: Advantages, *, errors: bool = True) -> dict[str, float]:
    """The metrics of one rollout; KL in nats, lengths in tokens.

    `objective` is mean reward - beta * mean KL on the prompts of this step, with the exact KL where it was measured.
    `_se` is a standard error over prompts, or over the completions of a single prompt. Without `errors`, those of
    `objective`, `kl/tok` and `policy/entropy` are left out, as earlier versions had none.
    """
    scored, rollout = advantages.scored, advantages.scored.rollout
    mask, samples = rollout.completion_mask, rollout.batch.samples_per_prompt
    scores, k1 = scored.scores, scored.distance.kl.sum(1)
    objective = scores - scored.beta * scored.distance.sequence_kl
    return {
        "objective": _mean(scores) - scored.beta * _mean(scored.distance.sequence_kl),
        **({"objective_se": _error(objective, samples)} if errors else {}),
        "reward/mean": _mean(scores),
        "reward/mean_se": _error(scores, samples),
        "reward/same_in_group": same_in_group(scores, scored.learnable, samples),
        "reward/failures": scored.failures,
        **{f"reward/{name}": _mean(part) for name, part in scored.parts.items()},
        **_exact(scored.distance.exact, mask, samples, errors=errors),
        "kl/seq_k1": _mean(k1),
        "kl/seq_k1_se": _error(k1, samples),
        "advantage/rms": float(masked_mean(advantages.advantages.square(), mask).sqrt()),
        **_values(advantages, mask),
        **_sampler(scored.log_weights),
        "completion/length": _mean(rollout.lengths),
        "completion/truncated": _mean(rollout.truncated),
        "beta": scored.beta,
        "temperature": rollout.temperature,
    }


def same_in_group(scores: Tensor, learnable: Tensor, samples: int) -> float:
    """The share of groups whose completions to learn from have one score; 0 with one sample a prompt.

    Where some completions are masked and no group has two others, all the others are one group, if they are several.
    """
    groups, counted = scores.view(-1, samples), learnable.view(-1, samples)
    if not bool(learnable.all()) and not bool((counted.sum(1) > 1).any()):
        groups, counted = scores.view(1, -1), learnable.view(1, -1)
    elif samples == 1:
        return 0.0
    if int(learnable.sum()) == 1:
        return 0.0
    highest = groups.masked_fill(~counted, -math.inf).amax(1)
    lowest = groups.masked_fill(~counted, math.inf).amin(1)
    return _mean(highest <= lowest)


def _exact(exact: Exact | None, mask: Tensor, samples: int, *, errors: bool) -> dict[str, float]:
    if exact is None:
        return {}
    return {
        "kl/seq": _mean(exact.kl.sum(1)),
        "kl/seq_se": _error(exact.kl.sum(1), samples),
        "kl/tok": float(masked_mean(exact.kl, mask)),
        **({"kl/tok_se": _token_error(exact.kl, mask, samples)} if errors else {}),
        "policy/entropy": float(masked_mean(exact.entropy, mask)),
        **({"policy/entropy_se": _token_error(exact.entropy, mask, samples)} if errors else {}),
    }


def _values(advantages: Advantages, mask: Tensor) -> dict[str, float]:
    """1 - Var(returns - values) / Var(returns), over tokens: 1 for a perfect value head, 0 for a useless one."""
    returns, values = advantages.returns, advantages.scored.values
    if returns is None or values is None:
        return {}
    unexplained = (returns - values)[mask].double().var(correction=0)
    return {
        "value/mean": float(masked_mean(values, mask)),
        "value/explained_variance": 1 - float(unexplained / returns[mask].double().var(correction=0).clamp(min=1e-12)),
    }


def _sampler(log_weights: Tensor | None) -> dict[str, float]:
    if log_weights is None:
        return {}
    mismatch = measure_mismatch(log_weights)
    return {
        "sampler/log_weight_mean": mismatch.mean,
        "sampler/log_weight_sd": mismatch.deviation,
        "sampler/effective_share": mismatch.effective_share,
        **({"sampler/cut_mass": cut} if (cut := measure_cut(log_weights)) else {}),
    }


def _error(values: Tensor, samples: int) -> float:
    prompts = values.double().view(-1, samples).mean(1)
    return standard_error((prompts if len(prompts) > 1 else values).tolist())


def _token_error(values: Tensor, mask: Tensor, samples: int) -> float:
    """Standard error of a mean over tokens: a ratio of two sums, to first order."""
    sums, lengths = masked_sum(values.double(), mask), mask.sum(1).double()
    return _error((sums - sums.sum() / lengths.sum() * lengths) / lengths.mean(), samples)


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
