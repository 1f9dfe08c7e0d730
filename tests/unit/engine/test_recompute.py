"""gradient_checkpointing: the same gradients, and much less kept for them, on both engines."""

from __future__ import annotations

from typing import Any, Final

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlhf_cli.engine.choice import build_engine
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.policy import Policy
from tests.unit.engine.families import family
from tests.unit.support import batch_of, build, lora, move_adapter, tiny


def gradients(policy: Policy, engine: Any) -> tuple[list[Tensor], int]:
    """Of a sum over the hidden states of four completions, and how many values were kept for them."""
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    rollout = engine.sample(batch_of(policy, ("Hello there", "a"), 2), Sampling(9, 1.0), lambda: None)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = engine.hidden(rollout, torch.arange(4))
    loss = (hidden * torch.linspace(-1, 2, hidden.shape[1])).sum()
    return list(torch.autograd.grad(loss, list(policy.parameters().values()))), sum(kept)


ZAMBA: Final = {
    "layers_block_type": ["mamba", "hybrid"], "num_mem_blocks": 1, "n_mamba_heads": 4, "mamba_d_state": 4,
    "mamba_headdim": 8, "mamba_ngroups": 1, "chunk_size": 8, "use_mem_rope": True,
}  # fmt: skip
"""A block of attention inside of a layer."""


@pytest.mark.parametrize(
    ("name", "fields"),
    [("OPT", {"dropout": 0.5, "ffn_dim": 32, "word_embed_proj_dim": 16}), ("Zamba2", ZAMBA)],
)
def test_dropout_stays_off_and_a_block_inside_of_another_is_a_part_of_it(name: str, fields: dict[str, Any]) -> None:
    policy = family(name, scale=3.0, adapter=lora(target_modules=["q_proj", "v_proj"]), **fields)
    move_adapter(policy)
    (plain, much), (recomputed, little) = (
        gradients(policy, TransformersEngine(policy, recompute=recompute)) for recompute in (False, True)
    )
    assert little < 0.5 * much
    assert all(torch.equal(one, other) for one, other in zip(plain, recomputed, strict=True))


@pytest.mark.parametrize(
    ("architecture", "engine"), [("llama", "native"), ("llama", "transformers"), ("gpt2", "transformers")]
)
def test_recomputing_keeps_less_and_gives_the_same_gradients(architecture: str, engine: str) -> None:
    found = []
    for recompute in (False, True):
        settings = tiny(architecture, layers=4, engine=engine, gradient_checkpointing=recompute)
        policy = build(settings)
        move_adapter(policy)
        found.append(gradients(policy, build_engine(policy, settings, lambda said: None)))
    (plain, much), (recomputed, little) = found
    assert little < 0.3 * much
    for one, other in zip(plain, recomputed, strict=True):
        assert one.abs().max() > 0
        assert_close(one, other, rtol=1e-4, atol=1e-6)
