"""KL(policy || reference): the sampled estimator k1 and the exact value over the vocabulary, in nats."""

from __future__ import annotations

import torch
from torch import Tensor

from rlhf_cli.functional.logprobs import CHUNK, Head, log_softmax
from rlhf_cli.functional.truncation import masks
from rlhf_cli.types import KeptSets


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """log pi - log pi_ref at the sampled tokens: unbiased, may be negative.

    Never clamp it: that biases value and gradient.

    Schulman 2020, http://joschu.net/blog/kl-approx.html.
    """
    return logprobs - ref_logprobs


def exact_kl(policy_log_softmax: Tensor, ref_log_softmax: Tensor) -> Tensor:
    """sum_v pi(v) (log pi(v) - log pi_ref(v)) of full distributions: [..., V] -> [...]; >= 0 up to rounding.

    The reference is finite; a token of probability zero under the policy contributes zero, -inf included.
    """
    return (policy_log_softmax.exp() * _finite(policy_log_softmax).sub_(ref_log_softmax)).sum(-1)


@torch.no_grad()
def against_reference(
    hidden: Tensor,
    ref_hidden: Tensor,
    tokens: Tensor,
    head: Head,
    temperature: float,
    kept: KeptSets | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor, Tensor]:
    """Reference log-probabilities of `tokens` [N], exact KL and policy entropy at each row: three float32 [N].

    `hidden` and `ref_hidden` [N, H] predicted the same positions under policy and reference; both go through the one
    frozen head. Cost: two head products a row, and two [chunk, V] tensors of memory. Only the policy is truncated to
    the sets `kept`: the reference must be one fixed distribution.
    """
    ref_logprobs, kl, entropy = [], [], []
    keeps = masks(kept, len(tokens), chunk)
    for h, r, t, keep in zip(hidden.split(chunk), ref_hidden.split(chunk), tokens.split(chunk), keeps, strict=True):
        policy, reference = log_softmax(head(h), temperature, keep), log_softmax(head(r), temperature)
        ref_logprobs.append(reference.gather(-1, t.unsqueeze(-1)).squeeze(-1))
        kl.append(exact_kl(policy, reference))
        entropy.append(-(policy.exp() * _finite(policy)).sum(-1))
    return torch.cat(ref_logprobs), torch.cat(kl), torch.cat(entropy)


def _finite(logprobs: Tensor) -> Tensor:
    """A copy with the lowest number in place of -inf: times a probability of zero it is zero, not NaN."""
    return logprobs.clamp(min=torch.finfo(logprobs.dtype).min)
