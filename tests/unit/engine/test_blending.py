"""Decoding between two models, against the library's logits, and against the closed form where that is exact."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from rlhf_cli.engine.blending import sample_between
from rlhf_cli.engine.choice import build_engine
from rlhf_cli.engine.reference import AnyEngine
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.types import Prompt, PromptBatch, PromptRow
from tests.unit.support import build, move_adapter, tiny


def nothing() -> None:
    pass


def engine_of(kind: str) -> AnyEngine:
    settings = tiny().model_copy(update={"engine": kind})
    policy = build(settings)
    move_adapter(policy)
    return build_engine(policy, settings, lambda note: None)


def prompts(samples: int) -> PromptBatch:
    several = tuple(Prompt(PromptRow("", {}, "test"), "", tokens) for tokens in ((5, 6, 7), (8,)))
    return PromptBatch(several, samples, tuple(range(2 * samples)))


@pytest.mark.parametrize("kind", ["native", "transformers"])
@torch.no_grad()
def test_each_token_is_drawn_from_the_geometric_mean(kind: str) -> None:
    engine, weight = engine_of(kind), 0.4
    rollout = sample_between(engine, prompts(3), Sampling(6, 0.7), weight, nothing)
    for row in range(len(rollout.batch)):
        prompt, mask = torch.tensor(rollout.batch.prompt_of(row).tokens), rollout.completion_mask[row]
        ids = torch.cat([prompt, rollout.tokens[row][mask]])[None]

        def logits(ids: Tensor = ids, start: int = len(prompt) - 1) -> Tensor:
            return cast(Tensor, engine.policy.causal(input_ids=ids, use_cache=False).logits[0, start:-1].double())

        own = logits()
        with engine.policy.reference():
            other = logits()
        mean = torch.log_softmax(((1 - weight) * other + weight * own) / 0.7, -1)
        expected = mean.gather(-1, rollout.tokens[row][mask].unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(rollout.logprobs[row][mask].double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["native", "transformers"])
def test_the_ends_of_the_dial_are_the_reference_and_the_policy(kind: str) -> None:
    engine = engine_of(kind)
    for weight, reference in ((0.0, True), (1.0, False)):
        alone = engine.sample(prompts(3), Sampling(6, 1.0), nothing, reference=reference)
        between = sample_between(engine, prompts(3), Sampling(6, 1.0), weight, nothing)
        assert torch.equal(between.tokens, alone.tokens)
        torch.testing.assert_close(between.logprobs, alone.logprobs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_from_the_optimum_at_one_beta_one_token_has_the_closed_form_at_another() -> None:
    """pi = ref exp(r / beta) / Z by making the policy's output the reference's plus r / beta."""
    engine, beta, other = engine_of("transformers"), 0.5, 1.25
    rewards = torch.linspace(-1, 1, engine.policy.causal.get_output_embeddings().weight.shape[0])

    class Optimal:
        policy = engine.policy

        def begin(self, batch: PromptBatch, sampling: Sampling, *, reference: bool) -> tuple[object, Tensor]:
            return engine.begin(batch, sampling, reference=True)

        def head(self, hidden: Tensor) -> Tensor:
            return engine.head(hidden) + rewards / beta

        def reference_head(self, hidden: Tensor) -> Tensor:
            return engine.head(hidden)

    batch = prompts(40)
    rollout = sample_between(cast(AnyEngine, Optimal()), batch, Sampling(1, 1.0), beta / other, nothing)
    _, hidden = engine.begin(batch, Sampling(1, 1.0), reference=True)
    closed = torch.log_softmax(engine.head(hidden).double() + rewards.double() / other, -1)
    expected = closed.gather(-1, rollout.tokens).squeeze(-1)
    assert float((rollout.logprobs[:, 0].double() - expected).abs().max()) < 2e-6  # float32
