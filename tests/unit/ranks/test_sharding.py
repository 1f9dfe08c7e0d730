"""A sharded model gives the numbers of the whole one; here one process holds its only shard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
import transformers
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.testing import assert_close

from rlhf_cli.engine.transformers import TransformersEngine, blocks
from rlhf_cli.errors import UserError
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.building import add_adapter
from rlhf_cli.models.policy import Policy
from rlhf_cli.models.tiny import byte_tokenizer
from rlhf_cli.ranks.gradient import check_gradients
from rlhf_cli.ranks.lockstep import Lockstep, Torn
from rlhf_cli.ranks.sharding import refuse_unread, shard
from tests.unit.support import batch_of, build, lora, move_adapter, tiny

TEXTS = ("Hello there", "a", "What is rain?")
CPU = torch.device("cpu")


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def policy_of(architecture: str) -> Policy:
    policy = build(tiny(architecture))
    move_adapter(policy)
    return policy


def sharded(architecture: str = "llama") -> tuple[Policy, TransformersEngine, Lockstep]:
    """A policy of which this process holds a part: all."""
    policy, lockstep = policy_of(architecture), Lockstep()
    group = dist.group.WORLD
    assert group is not None
    return *shard(policy, TransformersEngine(policy), CPU, group, lockstep), lockstep


def read(policy: Policy, engine: TransformersEngine) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Tokens, the reference's logits, and the gradient of a sum of log-probabilities by name."""
    rollout = engine.sample(batch_of(policy, TEXTS, 2), Sampling(5, 1.0), lambda: None)
    rows = torch.arange(len(rollout.batch))
    with torch.no_grad():
        logits = engine.head(engine.hidden(rollout, rows, reference=True))
    hidden = engine.hidden(rollout, rows)
    chosen = engine.head(hidden).log_softmax(1).gather(1, rollout.tokens[rollout.completion_mask][:, None])
    chosen.sum().backward()
    return rollout.tokens, logits, {name: p.grad for name, p in policy.parameters().items() if p.grad is not None}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])  # gpt2: embeddings and output layer are one weight
def test_a_sharded_model_samples_reads_and_differentiates_as_a_whole_one(architecture: str) -> None:
    whole = policy_of(architecture)
    tokens, logits, gradients = read(whole, TransformersEngine(whole))
    policy, engine, lockstep = sharded(architecture)
    passes: list[object] = []
    blocks(policy)[0].register_forward_hook(lambda *given: passes.append(given[0]))
    found = lockstep.run(lambda: read(policy, engine))
    assert torch.equal(found[0], tokens)
    assert_close(found[1], logits, rtol=0, atol=1e-6)
    assert set(found[2]) == set(policy.parameters()) == set(gradients)
    for name, gradient in gradients.items():
        assert_close(found[2][name], gradient, rtol=0, atol=1e-5)
    assert len(passes) == 5 + 2
    check_gradients(policy)


@pytest.mark.usefixtures("alone")
def test_the_base_is_sharded_and_the_adapter_is_whole() -> None:
    policy, engine, lockstep = sharded()
    before = policy_of("llama")
    lockstep.run(lambda: read(policy, engine))
    assert all(isinstance(weight, DTensor) for weight in policy.frozen().values())  # also behind a pass
    assert not any(isinstance(weight, DTensor) for weight in policy.parameters().values())
    assert set(policy.frozen()) == set(before.frozen())
    assert policy.fingerprint == before.fingerprint
    assert policy.adapter_files() == before.adapter_files()


def test_an_adapter_of_layers_that_no_text_goes_through_is_refused_with_the_layers_to_name() -> None:
    """Gemma 3 reads images too, by layers of attention with the same names."""
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    text = size | {"vocab_size": 257, "num_key_value_heads": 2, "head_dim": 4, "max_position_embeddings": 64}
    config = transformers.Gemma3Config(text_config=text, vision_config=size | {"image_size": 8, "patch_size": 4})
    for targets, refused in ((["q_proj", "o_proj"], True), (["o_proj", "down_proj"], False)):
        model = transformers.Gemma3ForConditionalGeneration(config).eval()
        adapter = add_adapter(model, lora(target_modules=targets), 1)
        policy = Policy(adapter, byte_tokenizer(), False, (256,), 256, 64)
        if not refused:
            refuse_unread(policy)
            continue
        with pytest.raises(UserError, match=r"^2 trained weights are of layers that no text goes through, ") as caught:
            refuse_unread(policy)
        others = "model.lora.target_modules=[down_proj,gate_proj,o_proj,up_proj]"
        assert caught.value.where == "model.lora.target_modules"
        assert caught.value.fix == f"name others: {others}; or take shard_model=false"


def test_a_weight_without_a_gradient_is_named() -> None:
    policy = policy_of("llama")
    parameters = policy.parameters()
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    check_gradients(policy)
    lost = list(parameters)[3]
    parameters[lost].grad = None
    with pytest.raises(UserError, match=rf"^1 of {len(parameters)} trained weights have no gradient: {lost} "):
        check_gradients(policy)


@pytest.mark.usefixtures("alone")
def test_only_an_error_outside_of_a_pass_can_be_met_with_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, engine, lockstep = sharded()
    assert lockstep.run(lambda: "no pass") == "no pass"

    def fail() -> None:
        engine.read_one(engine.forward)
        raise MemoryError("between passes")

    with pytest.raises(MemoryError, match="between passes"):
        lockstep.run(fail)
    lockstep.run(lambda: read(policy, engine))

    def broken(*given: object, **options: object) -> None:
        raise MemoryError("in a pass")

    layer = policy.causal.base_model.layers[1].mlp
    monkeypatch.setattr(layer, "forward", broken)
    with pytest.raises(Torn) as caught:
        lockstep.run(lambda: read(policy, engine))
    assert str(caught.value.error) == "in a pass"
