"""A base model of which each process holds a part, by FSDP2: for models that do not fit on one device.

The layers are gathered one after the other for each pass, and freed behind it. Adapter and value head are small, and
whole in every process: their gradients go the way of all runs.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from rlhf_cli.engine.allocator import return_freed_memory
from rlhf_cli.engine.choice import build_engine
from rlhf_cli.engine.opening import place_of
from rlhf_cli.engine.reference import AnyEngine, TwoModels, load_models
from rlhf_cli.engine.transformers import TransformersEngine, blocks
from rlhf_cli.errors import UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks.lockstep import PATIENCE, Lockstep
from rlhf_cli.schema import RunConfig

WHY_SLOWER: Final = "the model runs on transformers' own forward pass, which is slower: its weights are sharded"


def load(config: RunConfig, note: Callable[[str], None], lockstep: Lockstep | None) -> tuple[Policy, AnyEngine]:
    """Load the model of a run in this process: whole, or its part of a sharded one, to be used in lockstep."""
    if lockstep is not None:
        return load_sharded(config, note, lockstep)
    policy, engine = load_models(config, note)
    if isinstance(engine, TwoModels) and engine.own.invariant != engine.other.invariant:
        assert config.reference.kind == "model"
        # a run keeps one `invariant`, by which a resume builds both
        pairs = (engine.own.policy, config.model), (engine.other.policy, config.reference.pretrained())
        engine = TwoModels(*(build_engine(each, settings, lambda line: None) for each, settings in pairs))
    return policy, engine


def load_sharded(
    config: RunConfig, note: Callable[[str], None], lockstep: Lockstep
) -> tuple[Policy, TransformersEngine]:
    """Load the model, keep this process's part of its weights, and make all passes in step with the others.

    The processes load one after the other, into the host's memory: one whole model at a time. All of them call it.
    Raises UserError as `load_models` does, and for a model without layers to shard.
    """
    device, dtype = place_of(config)
    group = dist.new_group(backend="nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    loaded: tuple[Policy, TransformersEngine] | None = None
    failure: Exception | None = None
    for turn in range(group.size()):
        if turn == group.rank():
            try:
                loaded = shard(*load_whole(config, dtype, note), device, group, lockstep)
            except Exception as error:
                if turn == 0:  # the run ends, and the others with it
                    raise
                failure = error
        lockstep.meet()
    if loaded is None:
        assert failure is not None
        raise failure
    return loaded


def load_whole(
    config: RunConfig, dtype: torch.dtype | None, note: Callable[[str], None]
) -> tuple[Policy, TransformersEngine]:
    """Load the model into the host's memory; the engine reads its weights by its modules alone."""
    if config.model.engine != "transformers":
        note(WHY_SLOWER)
    model = config.model.model_copy(update={"engine": "transformers"})
    name = str(dtype).removeprefix("torch.") if dtype else "auto"
    fields = {"model": model, "device": "cpu", "dtype": name, "invariant": False}
    policy, engine = load_models(config.model_copy(update=fields), note)
    assert isinstance(engine, TransformersEngine)
    return policy, engine


def shard(
    policy: Policy, engine: TransformersEngine, device: torch.device, group: ProcessGroup, lockstep: Lockstep
) -> tuple[Policy, TransformersEngine]:
    """Keep this process's part of the base model's weights, on `device`, and free the rest.

    The layers' weights are gathered for a pass and freed behind it. Embeddings and output layer stay until the end of a
    shard's work, as its log-probabilities need them. Raises UserError for a model without layers to shard, and as
    `refuse_unread` does.
    """
    refuse_unread(policy)
    layers, adapter, causal = blocks(policy), policy.parameters(), policy.causal
    if not layers:
        raise UserError(
            f"{causal.config.model_type} models have no layers to shard", where="shard_model", fix="shard_model=false"
        )
    fingerprint = policy.fingerprint
    mesh = DeviceMesh.from_group(group, device.type)
    wrap = partial(fully_shard, mesh=mesh, ignored_params={*adapter.values()})
    for parameter in adapter.values():
        parameter.data = parameter.data.to(device)
    for layer in layers:
        wrap(layer, reshard_after_forward=True)
    root = wrap(causal, reshard_after_forward=False)
    whole = engine.forward
    # FSDP warns of the view that GPT-2 returns
    causal.read_states = lambda **inputs: whole(**inputs).clone()
    register_fsdp_forward_method(causal, "read_states")
    engine.forward = lockstep.bind(causal.read_states, engine.read_one, root.reset_iter_state)
    return_freed_memory()
    return replace(policy, whole_fingerprint=fingerprint), engine


def refuse_unread(policy: Policy) -> None:
    """Raise UserError for an adapter of layers that no text goes through, as those of images: it has no gradient.

    In a run with a whole model it stays as it began; here nothing would tell it from one whose gradient was lost.
    """
    causal, decoder = policy.causal, policy.causal.get_decoder()
    read = {id(weight) for part in (decoder, causal.get_output_embeddings()) for weight in part.parameters()}
    unread = [name for name, weight in policy.parameters().items() if "lora_" in name and id(weight) not in read]
    if unread:
        everywhere, inside = Counter(_linear_layers(causal)), Counter(_linear_layers(decoder))
        fitting = ",".join(sorted(name for name, count in inside.items() if everywhere[name] == count))
        raise UserError(
            f"{len(unread)} trained weights are of layers that no text goes through, as {unread[0]}",
            where="model.lora.target_modules",
            fix=f"name others: model.lora.target_modules=[{fitting}]; or take shard_model=false",
        )


def _linear_layers(model: nn.Module) -> Iterator[str]:
    """The last part of each linear layer's name; an adapter's own layers are none."""
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear) and "lora_" not in name:
            yield name.removesuffix(".base_layer").rpartition(".")[2]
