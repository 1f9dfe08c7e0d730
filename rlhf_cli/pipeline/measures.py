"""The metrics of a step, computed from its stages."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_cli.evaluation.intervals import standard_error
from rlhf_cli.functional.masked import masked_mean, masked_sum
from rlhf_cli.functional.mismatch import measure_cut, measure_mismatch
from rlhf_cli.functional.returns import are_alike
from rlhf_cli.ranks.rollouts import row_weights
from rlhf_cli.types import Advantages, Exact, Scored


@dataclass(frozen=True, slots=True)
class Means:
    """Means over the completions of a step, as estimates of those over all prompts of the run, and their errors.

    Where prompts are drawn with unequal probability, each counts by its weight; the weights' sum is the divisor, so
    that a constant is its own mean (self-normalised importance sampling: Hesterberg 1995).
    """

    samples: int
    """Completions of a prompt."""
    weights: Tensor | None = None
    """float64 [B], None where all weigh the same."""

    def mean(self, values: Tensor) -> float:
        """The mean of the values [B]."""
        return float((values.double() if self.weights is None else self._weigh(values)).mean())

    def error(self, values: Tensor) -> float:
        """Standard error of the mean, over prompts, or over the completions of a single prompt."""
        weighed = values.double() if self.weights is None else self._weigh(values.double() - self.mean(values))
        prompts = weighed.view(-1, self.samples).mean(1)
        return standard_error((prompts if len(prompts) > 1 else weighed).tolist())

    def token_mean(self, values: Tensor, mask: Tensor) -> float:
        """The mean over tokens of the values [B, T]."""
        if self.weights is None:
            return float(masked_mean(values, mask))
        return self.mean(masked_sum(values.double(), mask)) / self.mean(mask.sum(1))

    def token_error(self, values: Tensor, mask: Tensor) -> float:
        """Standard error of a mean over tokens: a ratio of two sums, to first order."""
        sums, lengths = masked_sum(values.double(), mask), mask.sum(1).double()
        if self.weights is None:
            return self.error((sums - sums.sum() / lengths.sum() * lengths) / lengths.mean())
        return self.error(sums - self.token_mean(values, mask) * lengths) / self.mean(lengths)

    def _weigh(self, values: Tensor) -> Tensor:
        assert self.weights is not None
        return values.double() * (self.weights / self.weights.mean()).to(values.device)


def means_of(scored: Scored) -> Means:
    """The means of a step."""
    batch = scored.rollout.batch
    return Means(batch.samples_per_prompt, row_weights(batch))


def measure(advantages: Advantages, *, errors: bool = True, rollouts: int = 0) -> dict[str, float]:
    """The metrics of one rollout; KL in nats, lengths in tokens.

    `objective` is mean reward - beta * mean KL on the prompts of this step, with the exact KL where it was measured.
    `_se` is a standard error over prompts, or over the completions of a single prompt. Without `errors`, those of
    `objective`, `kl/tok` and `policy/entropy` are left out, as earlier versions had none.

    Where prompts are drawn with unequal probability, means of reward, KL and entropy are weighed, as those over all
    prompts; `drawn/...` are those of the drawn prompts alone. Lengths and advantages are of the drawn prompts.

    `rollouts` is the number that a step with prompts=dynamic drew, else 0; `drawn/...` then counts its groups, and the
    groups that it learns from. `advantage/rms` is over the completions that the step learns from, all else over all
    completions. Prompts without a score are in none of these.
    """
    scored, rollout = advantages.scored, advantages.scored.rollout
    mask, samples, means = rollout.completion_mask, rollout.batch.samples_per_prompt, means_of(scored)
    scores, k1 = scored.scores, scored.distance.kl.sum(1)
    counted = torch.ones_like(scored.learnable) if rollouts else scored.learnable
    learned = mask & scored.learnable.unsqueeze(1)
    objective = scores - scored.beta * scored.distance.sequence_kl
    return {
        "objective": means.mean(scores) - scored.beta * means.mean(scored.distance.sequence_kl),
        **({"objective_se": means.error(objective)} if errors else {}),
        "reward/mean": means.mean(scores),
        "reward/mean_se": means.error(scores),
        "reward/same_in_group": same_in_group(scores, counted, samples),
        "reward/failures": scored.failures,
        **{f"reward/{name}": means.mean(part) for name, part in scored.parts.items()},
        **_exact(scored.distance.exact, mask, means, errors=errors),
        "kl/seq_k1": means.mean(k1),
        "kl/seq_k1_se": means.error(k1),
        **_drawn(objective, scores, means),
        **(_kept(scored, rollouts) if rollouts else {}),
        "advantage/rms": float(masked_mean(advantages.advantages.square(), learned).sqrt()),
        **_values(advantages, mask),
        **_sampler(scored.log_weights),
        "completion/length": _mean(rollout.lengths),
        "completion/truncated": _mean(rollout.truncated),
        "beta": scored.beta,
        "temperature": rollout.temperature,
    }


def same_in_group(scores: Tensor, learnable: Tensor, samples: int) -> float:
    """The share of groups whose completions to learn from have one score, up to rounding; 0 with one sample a prompt.

    Where masking leaves no group with two completions, all that it leaves are one group; a single one has no group.
    """
    groups, counted = scores.view(-1, samples), learnable.view(-1, samples)
    if not bool(learnable.all()) and not bool((counted.sum(1) > 1).any()):
        groups, counted = scores.view(1, -1), learnable.view(1, -1)
    elif samples == 1:
        return 0.0
    if int(learnable.sum()) == 1:
        return 0.0
    return _mean(are_alike(groups, counted))


def _exact(exact: Exact | None, mask: Tensor, means: Means, *, errors: bool) -> dict[str, float]:
    if exact is None:
        return {}
    return {
        "kl/seq": means.mean(exact.kl.sum(1)),
        "kl/seq_se": means.error(exact.kl.sum(1)),
        "kl/tok": means.token_mean(exact.kl, mask),
        **({"kl/tok_se": means.token_error(exact.kl, mask)} if errors else {}),
        "policy/entropy": means.token_mean(exact.entropy, mask),
        **({"policy/entropy_se": means.token_error(exact.entropy, mask)} if errors else {}),
    }


def _drawn(objective: Tensor, scores: Tensor, means: Means) -> dict[str, float]:
    """The means of the drawn prompts, and the share of them that their weighed mean is worth (Kish 1965)."""
    if means.weights is None:
        return {}
    return {
        "drawn/objective": _mean(objective),
        "drawn/reward": _mean(scores),
        "drawn/effective_share": float(means.weights.mean() ** 2 / means.weights.square().mean()),
    }


def _kept(scored: Scored, rollouts: int) -> dict[str, float]:
    """The counts of what a step with prompts=dynamic drew, and of what it learns from."""
    batch, lengths, learnable = scored.rollout.batch, scored.rollout.lengths, scored.learnable
    return {
        "drawn/rollouts": rollouts,
        "drawn/prompts": len(batch.prompts),
        "drawn/tokens": int(lengths.sum()),
        "drawn/kept_prompts": int(learnable.sum()) // batch.samples_per_prompt,
        "drawn/kept_tokens": int(lengths[learnable].sum()),
    }


def _values(advantages: Advantages, mask: Tensor) -> dict[str, float]:
    """1 - Var(returns - values) / Var(returns), over tokens: 1 for a perfect value head, 0 for a useless one.

    Returns that are all the same up to rounding have nothing to explain: there is no such share then.
    """
    returns, values = advantages.returns, advantages.scored.values
    if returns is None or values is None:
        return {}
    variance, unexplained = ((returns - part)[mask].double().var(correction=0) for part in (0.0, values))
    alike = bool(are_alike(returns.reshape(1, -1), mask.reshape(1, -1)))
    explained = {} if alike else {"value/explained_variance": 1 - float(unexplained / variance)}
    return {"value/mean": float(masked_mean(values, mask)), **explained}


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


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
