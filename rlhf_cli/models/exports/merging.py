"""Merge a policy's adapter into the weights: a model that needs no PEFT."""

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from rlhf_cli.errors import UserError
from rlhf_cli.models.libraries import silence_transformers
from rlhf_cli.models.loading import round_weights
from rlhf_cli.models.policy import Policy

TOLERANCE: Final = 1e-4
"""Largest difference of the logits, relative to the largest one."""


def write_merged(policy: Policy, folder: Path, dtype: torch.dtype) -> float:
    """Write the merged model as safetensors, with its tokenizer, chat template and generation config.

    The policy's weights are float32, and `folder` exists. Returns the largest difference of the merged model's logits
    from those of base and adapter, relative to the largest logit, before the weights are rounded to `dtype`. Raises
    UserError where it is above TOLERANCE, and OSError.
    """
    merged, difference = merge(policy)
    round_weights(merged, dtype)
    merged.generation_config = copy.deepcopy(policy.causal.generation_config)
    if merged.generation_config is not None:  # the run ended completions at these tokens
        merged.generation_config.eos_token_id = list(policy.end_tokens)
    merged.config.dtype = dtype
    save_model(merged, folder)
    policy.tokenizer.save_pretrained(folder)
    return difference


def save_model(model: Any, folder: Path, **how: Any) -> None:
    """Save as transformers does; raises OSError, also where safetensors has an error of its own for such a disk."""
    from safetensors import SafetensorError

    try:
        model.save_pretrained(folder, **how)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def merge(policy: Policy, *, adapter: bool = True) -> tuple[Any, float]:
    """The merged model, float32 on the CPU, and the largest difference of its logits, as in `write_merged`.

    Without the adapter it is the reference. Raises UserError where the difference is above TOLERANCE.
    """
    silence_transformers()
    with torch.device("meta"):  # a model of the same class, without an adapter and without memory for its weights
        merged: Any = type(policy.causal)(copy.deepcopy(policy.causal.config)).eval()
    # refuses a name that is missing, unknown, or of another shape
    merged.load_state_dict(merge_weights(policy.causal, adapter=adapter), assign=True)
    tied = bool(merged.all_tied_weights_keys)
    # as a file is read: weights that are equal become one, and not those that adapters of their own have made differ
    merged.tie_weights(missing_keys=set(), recompute_mapping=False)
    if tied and not merged.all_tied_weights_keys:  # for readers that believe the config
        merged.config.tie_word_embeddings = False
    with nullcontext() if adapter else policy.reference():
        return merged, _compare(policy, merged)


def merge_weights(model: nn.Module, *, adapter: bool = True) -> dict[str, Tensor]:
    """The weights of an adapted model by their plain names, in float32 on the CPU, the adapter merged in or left out.

    One layer at a time is copied: the model itself stays as it is.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted: dict[str, nn.Module] = {}
    for name, module in model.named_modules():  # the experts of a layer are wrapped twice, a weight each
        if isinstance(module, BaseTunerLayer) and not name.endswith(".base_layer"):
            adapted[name] = module
    weights: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not any(name.startswith(f"{layer}.") for layer in adapted):
            weights[name] = tensor.detach().float().cpu()
    for name, module in adapted.items():
        merged: Any = copy.deepcopy(module).float()
        for layer in merged.modules() if adapter else ():
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
        for part, tensor in merged.get_base_layer().state_dict().items():
            weights[f"{name}.{part}"] = tensor.detach().cpu()
    return weights


@torch.no_grad()
def _compare(policy: Policy, merged: Any) -> float:
    """Compare the logits of a short text; raises UserError where the merged model gives others."""
    for name, buffer in policy.causal.named_buffers():  # the angles of rotary positions are in no file
        module, _, own = name.replace(".base_layer", "").rpartition(".")
        merged.get_submodule(module).register_buffer(own, buffer.detach().float().cpu(), persistent=False)
    tokens = torch.arange(8)[None] % policy.causal.config.get_text_config().vocab_size
    own = policy.causal(input_ids=tokens.to(policy.device)).logits.float().cpu()
    difference = float((merged(input_ids=tokens).logits - own).abs().max() / own.abs().max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"merged into the weights the adapter has another effect: the logits differ by {difference:.1e} of the "
            "largest",
            where="the adapter",
            fix="load the adapter with PEFT instead, beside the base model",
        )
    return difference
