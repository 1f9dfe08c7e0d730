"""Decode between the reference and the policy, or beyond it: each token proportional to pi_ref^(1 - w) pi^w.

Decoding-time realignment (Liu et al. 2024, arXiv:2402.02992). The optimum at beta is pi_ref exp(r / beta) / Z, so the
optimum at beta' is proportional to pi_ref^(1 - w) pi^w with w = beta / beta', over whole completions. Here each token
is drawn so by itself, whatever may follow: exact for completions of one token, and an approximation for longer ones.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_cli.engine.decoding import Reader, decode
from rlhf_cli.engine.reference import AnyEngine
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.types import PromptBatch, Rollout, Tick


@dataclass(frozen=True, slots=True)
class _Both:
    """A `Reader` of two models; its states are those of the policy, then those of the reference."""

    policy: Reader
    reference: Reader

    def read(self, tokens: Tensor) -> Tensor:
        return torch.cat([self.policy.read(tokens), self.reference.read(tokens)], -1)

    def keep(self, rows: Tensor) -> None:
        self.policy.keep(rows)
        self.reference.keep(rows)


@torch.no_grad()
def sample_between(engine: AnyEngine, batch: PromptBatch, sampling: Sampling, weight: float, tick: Tick) -> Rollout:
    """Sample a completion for every seed of the batch from softmax(((1 - w) z_ref + w z) / T), w = `weight`.

    0 is the reference and 1 the policy. The hidden states of the rollout are those of both models, side by side.
    """
    (policy, own), (reference, other) = (engine.begin(batch, sampling, reference=which) for which in (False, True))

    def head(hidden: Tensor) -> Tensor:
        of_policy, of_reference = hidden.split([own.shape[-1], other.shape[-1]], -1)
        return torch.lerp(engine.reference_head(of_reference).float(), engine.head(of_policy).float(), weight)

    both = _Both(policy, reference)
    return decode(both, torch.cat([own, other], -1), head, engine.policy, batch, sampling, tick)
