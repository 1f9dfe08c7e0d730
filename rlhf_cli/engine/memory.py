"""The number of completions that go through the model at once, the memory of a step, and running out of it."""

from __future__ import annotations

import resource
import sys
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from rlhf_cli.functional.logprobs import CHUNK
from rlhf_cli.models.memory import memory_errors, total_memory
from rlhf_cli.plural import plural

if TYPE_CHECKING:
    from rlhf_cli.models.policy import Policy

CPU_TOKENS: Final = 2048
"""Tokens of a microbatch on a CPU. Larger ones gain little: steps of 32 rows of 88 tokens took 12.5, 12.0, 11.5 and
11.1 s and 1.9, 2.3, 3.1 and 3.8 GB with microbatches of 4, 8, 16 and 32 rows."""

KEPT: Final = 0.6
"""Share of `activation_bytes` that a microbatch keeps in fact, without gradient checkpointing. Measured on
SmolLM2-135M in float32: with it the peaks of runs of train, sft and reward train are predicted to 20 %."""

KEPT_BESIDE_FLOAT32: Final = 0.87
"""`KEPT` of narrower weights where the residual stream and attention are float32, as in an invariant engine. Measured
on blocks of SmolLM2-135M in bfloat16: 20.2 kB a token and block, and 27.9 in float32."""

ACTIVATIONS_SHARE: Final = 0.4
"""Share of the machine's memory for activations; the rest is for weights, cache and other processes."""

REUSED_SHARE: Final = 0.15
"""Largest share of the machine's memory for a forward pass that is kept to be reused."""


def microbatch_size(policy: Policy, sequence_length: int, completions: int, group: int, *, recompute: bool) -> int:
    """Number of rows of `sequence_length` tokens whose activations fit into memory, from 1 to `completions`.

    Whole groups where one fits, since a group's prompt is read once. It depends on the machine's total memory, not on
    the free memory: the same config on the same machine gives the same number, and a run repeats bit for bit.
    """
    budget = ACTIVATIONS_SHARE * total_memory(policy.device)
    rows = int(budget // activation_bytes(policy, sequence_length, recompute=recompute))
    if policy.device.type == "cpu":
        rows = min(rows, CPU_TOKENS // sequence_length)
    return whole_groups(min(rows, completions), group)


def whole_groups(rows: int, group: int) -> int:
    """As many completions as `rows` or fewer, at least one, and no part of a group of `group` beside another."""
    return rows - rows % group if rows > group else max(1, rows)


def activation_bytes(policy: Policy, sequence_length: int, *, recompute: bool) -> int:
    """Bytes kept for the backward pass of one row: layers * s * (34 h + 5 a s) for values of two bytes.

    Korthikanti et al. 2022, arXiv:2205.05198, equation 2, with s the length, h the width, a the attention heads. An
    upper bound: the native engine keeps about two thirds, and fused attention has no s^2 term. With gradient
    checkpointing: the input of every block, plus one block's share of the above.
    """
    config = policy.causal.config.get_text_config()
    width, heads, layers = config.hidden_size, _most(config, "num_attention_heads", 1), config.num_hidden_layers
    block = sequence_length * (34 * width + 5 * heads * sequence_length) // 2
    values = block + layers * sequence_length * width if recompute else layers * block
    return int(values * torch.finfo(policy.causal.dtype).bits // 8)


def forward_bytes(policy: Policy, tokens: int) -> int:
    """Bytes of the outputs of all linear layers of the blocks, for this many tokens."""
    layers = policy.causal.base_model.named_modules()
    width = sum(layer.out_features for name, layer in layers if isinstance(layer, nn.Linear) and "lora_" not in name)
    return tokens * width * torch.finfo(policy.causal.dtype).bits // 8


def predicted_peak(
    policy: Policy,
    sequence_length: int,
    max_new_tokens: int,
    completions: int,
    microbatch: int,
    *,
    recompute: bool,
    at_once: int | None = None,
    invariant: bool = False,
    trained: bool = True,
) -> int:
    """Estimate a step's peak memory in bytes: the resident memory now, plus the larger of rollout and update.

    A rollout holds the keys and values of every token, and at most a second copy of the blocks' weights, which has the
    adapter folded in. An update holds what its microbatch keeps for the backward pass. Both hold some logits and the
    hidden states of all completions. `at_once`: the completions that are written at once, of all; None: all.
    `invariant`: the cache of the rollout is float32. A second model, the reference, is not `trained`: it has no adapter
    to fold in, and reads without a gradient, as with `recompute`. Not in it is what oneDNN and torch keep for shapes of
    tensors that they have met, up to a bound: 0.7 GiB after 84 updates of the tiny model by PPO.
    """
    model, config = policy.causal, policy.causal.config.get_text_config()
    size, written = torch.finfo(model.dtype).bits // 8, completions if at_once is None else at_once
    heads = _most(config, "num_attention_heads", 1)
    head = _most(config, "head_dim", config.hidden_size // heads)
    groups = _most(config, "num_key_value_heads", heads)
    cache = 2 * config.num_hidden_layers * groups * head * sequence_length * written * (4 if invariant else size)
    blocks = size * sum(p.numel() for p in model.base_model.parameters()) if trained else 0
    kept = 1 if recompute else KEPT_BESIDE_FLOAT32 if invariant and size < 4 else KEPT
    update = round(kept * microbatch * activation_bytes(policy, sequence_length, recompute=recompute))
    logits = 4 * max(written, CHUNK) * config.vocab_size * 4
    states = 2 * completions * max_new_tokens * config.hidden_size * size
    return int(resident(policy.device) + max(cache + blocks, update) + logits + states)


def _most(config: Any, name: str, otherwise: int) -> int:
    """The largest value that a layer has of a setting, as layers may differ; `otherwise` where none has one."""
    layers = getattr(config, "per_layer_config", None) or [config]
    return max(getattr(layer, name, None) or otherwise for layer in layers)


def resident(device: torch.device) -> int:
    """Present memory of the process, or of its tensors on a GPU, in bytes."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    import psutil

    return int(psutil.Process().memory_info().rss)


def resident_of_children() -> int:
    """Present memory of the processes that this one has started, as that of a reward's model, in bytes."""
    import psutil

    found = 0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += int(child.memory_info().rss)
    return found


def peak(device: torch.device) -> int:
    """Peak memory of the process, or of its tensors on a GPU, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def room_for(completions: int, key: str) -> AbstractContextManager[None]:
    """Turn running out of memory inside into a UserError; `key` is the setting of the number of `completions`."""
    what = f"out of memory while writing {plural(completions, 'completion')} at once"
    return memory_errors(what, key, "lower it, prompts_per_step or max_new_tokens")
