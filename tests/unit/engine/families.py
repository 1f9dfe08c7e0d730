"""Tiny random models of many families, each with an adapter."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from rlhf_cli.models.building import add_adapter
from rlhf_cli.models.policy import Policy
from rlhf_cli.models.settings import Lora
from rlhf_cli.models.tiny import byte_tokenizer
from tests.unit.support import lora


def family(name: str, *, scale: float = 20.0, adapter: Lora | None = None, **fields: Any) -> Policy:
    """A policy of the family `name`, of 16 dimensions; `scale`: how much larger its weights are than at random."""
    shared = {
        "vocab_size": 257,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,  # the embedding of a pad token is zero in a random model, which would hide a wrong head
        "bos_token_id": 256,
        "eos_token_id": 256,
    }
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(
        getattr(transformers, f"{name}Config")(**(shared | fields))
    ).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
            elif "norm" in parameter_name:  # ones in a new model, and biases are zeros: nobody would miss them
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.uniform_(-0.2, 0.2)
    return Policy(add_adapter(model, adapter or lora(), 1), byte_tokenizer(), False, (256,), 256, 64)
