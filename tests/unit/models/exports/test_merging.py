"""A policy with its adapter merged into the weights, as plain transformers loads it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_cli.errors import UserError
from rlhf_cli.models.exports.merging import merge, write_merged
from rlhf_cli.models.policy import Policy
from tests.unit.engine.families import family
from tests.unit.support import build, lora, move_adapter, tiny

TOKENS = torch.tensor([[5, 6, 7, 8, 9]])


def trained(architecture: str = "llama", **adapter: Any) -> Policy:
    policy = build(tiny(architecture, **adapter))
    move_adapter(policy)
    return policy


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    result: torch.Tensor = model(input_ids=TOKENS).logits
    return result.float()


@pytest.mark.parametrize(
    ("architecture", "adapter"), [("llama", {}), ("gpt2", {}), ("llama", {"dora": True}), ("gpt2", {"rslora": True})]
)
def test_plain_transformers_gives_the_logits_of_base_and_adapter(
    architecture: str, adapter: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    policy = trained(architecture, **adapter)
    before = logits(policy.causal)
    with policy.reference():
        assert not torch.allclose(before, logits(policy.causal), atol=1e-2)
    assert write_merged(policy, tmp_path, torch.float32) < 1e-4
    assert torch.equal(logits(policy.causal), before)  # the policy itself stays as it is
    merged = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(logits(merged), before, atol=1e-4 * float(before.abs().max()))
    assert merged.generation_config.eos_token_id == list(policy.end_tokens)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("Say it.")["input_ids"] == policy.tokenizer("Say it.")["input_ids"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("adapter", [{}, {"dora": True}])
def test_without_the_adapter_it_is_the_reference(adapter: dict[str, Any]) -> None:
    policy = trained(**adapter)
    with policy.reference():
        before = logits(policy.causal)
    reference, difference = merge(policy, adapter=False)
    assert difference < 1e-6
    assert torch.allclose(logits(reference), before, atol=1e-6)


LATENT: Final = {"kv_lora_rank": 4, "q_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 4}
"""Fields of DeepSeek's attention."""


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("Qwen3Moe", {"num_experts": 4}),
        ("DeepseekV3", LATENT | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}),
    ],
)
def test_the_adapters_of_experts_are_merged(name: str, fields: dict[str, Any], adapter: bool) -> None:
    shared = {"num_experts_per_tok": 2, "moe_intermediate_size": 8, "num_key_value_heads": 4, "head_dim": 4}
    policy = family(name, scale=8.0, **(shared | fields))
    assert any("experts.base_layer.lora_B" in name for name in policy.parameters())
    move_adapter(policy)
    merged, difference = merge(policy, adapter=adapter)
    assert difference < 1e-5
    with nullcontext() if adapter else policy.reference():
        assert_close(logits(merged), logits(policy.causal), rtol=0, atol=1e-4)


SHARED: Final = {
    "num_hidden_layers": 3, "layers_block_type": ["hybrid", "mamba", "hybrid"], "num_mem_blocks": 1,
    "n_mamba_heads": 4, "mamba_d_state": 4, "mamba_headdim": 8, "mamba_ngroups": 1, "chunk_size": 8,
}  # fmt: skip
"""Fields of a Zamba 2 whose two blocks of attention share their weights."""


@pytest.mark.parametrize(
    ("name", "target", "fields", "stays"),
    [("Zamba2", "q_proj", SHARED, True), ("Llama", "lm_head", {"tie_word_embeddings": True}, False)],
)
def test_layers_that_share_weights_and_not_their_adapter_part(
    name: str, target: str, fields: dict[str, Any], stays: bool, tmp_path: Path
) -> None:
    """The first has other weights that stay shared; the second's output layer shared them with the embeddings."""
    policy = family(name, scale=3.0, adapter=lora(target_modules=[target]), **fields)
    assert policy.causal.config.tie_word_embeddings
    move_adapter(policy)
    before = logits(policy.causal)
    with policy.reference():
        assert not torch.allclose(before, logits(policy.causal), atol=1e-3)
    assert write_merged(policy, tmp_path, torch.float32) < 1e-5
    merged = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert merged.config.tie_word_embeddings is stays
    assert_close(logits(merged), before, rtol=0, atol=1e-5 * float(before.abs().max()))
    one, other = (merged.get_output_embeddings().weight, merged.get_input_embeddings().weight)
    assert (one is other) is stays


def test_the_weights_are_rounded_only_after_the_merge(tmp_path: Path) -> None:
    policy = trained()
    write_merged(policy, tmp_path, torch.bfloat16)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert merged.dtype == torch.bfloat16
    write_merged(policy, tmp_path / "exact", torch.float32)
    exact = AutoModelForCausalLM.from_pretrained(tmp_path / "exact").state_dict()
    for name, weight in merged.state_dict().items():
        assert torch.equal(weight, exact[name].bfloat16()), name


def test_a_merge_with_another_effect_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora import Linear

    policy = trained()
    monkeypatch.setattr(Linear, "merge", lambda self: self.base_layer.weight.data.mul_(1.01))
    with pytest.raises(UserError, match="merged into the weights the adapter has another effect"):
        write_merged(policy, tmp_path, torch.float32)
    assert not any(tmp_path.iterdir())
