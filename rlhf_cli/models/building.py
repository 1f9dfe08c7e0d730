"""Build a policy: load the model, freeze it, add a fresh adapter and, where one is needed, a head of zeros."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

import torch

from rlhf_cli.errors import UserError, first_line
from rlhf_cli.models.chat import find_end_of_turn
from rlhf_cli.models.encoder import context_length, uses_chat_template
from rlhf_cli.models.loading import quiet_peft, round_weights
from rlhf_cli.models.memory import room_for_model
from rlhf_cli.models.policy import Policy
from rlhf_cli.models.settings import Lora, Model
from rlhf_cli.models.specials import NONE_KEPT, SpecialTokens, special_ids
from rlhf_cli.models.value_head import ValueHead

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "o_proj")
"""The linear layers of attention, as most architectures name them."""


def build_policy(
    settings: Model,
    device: torch.device,
    dtype: torch.dtype | None,
    adapter_seed: int,
    *,
    head: Callable[[int], ValueHead] | None = None,
    special: SpecialTokens = NONE_KEPT,
) -> Policy:
    """Load and freeze the model; add an adapter with A random by `adapter_seed` and B zero, and perhaps a value head.

    So the policy starts as the reference. A `dtype` of None is that of `dtype_on_cpu`. `head` makes the value head of
    states of a width; None: it has none. Raises UserError for a model that is missing or too large, and for target
    modules that it lacks.
    """
    notes: tuple[str, ...] = ()
    use_chat_template = False
    with room_for_model():
        if settings.kind == "tiny":
            from rlhf_cli.models.tiny import build_tiny

            model, tokenizer = build_tiny(settings)
        else:
            from rlhf_cli.models.loading import load

            loaded = load(settings, dtype, device)
            model, tokenizer, notes, dtype = loaded.model, loaded.tokenizer, loaded.notes, loaded.dtype
            use_chat_template = uses_chat_template(settings.prompt_format, tokenizer, settings.path)
        model.to(device=device).eval()
        round_weights(model, dtype or torch.float32)
    ends, stop_texts = _find_ends(model, tokenizer, settings.stop, use_chat_template=use_chat_template)
    with room_for_model():
        peft = add_adapter(model, settings.lora, adapter_seed)
    return Policy(
        peft=peft,
        tokenizer=tokenizer,
        use_chat_template=use_chat_template,
        end_tokens=ends,
        stop_texts=stop_texts,
        pad_token=ends[0],
        context=context_length(model.config),
        notes=notes,
        anchor=_find_anchor(tokenizer),
        kept_tokens=frozenset(special.select(tokenizer, ends, use_chat_template=use_chat_template)),
        value_head=head and head(model.get_output_embeddings().weight.shape[1]).to(device),
    )


def add_adapter(model: PreTrainedModel, lora: Lora, seed: int) -> PeftModel:
    """Wrap the model's target modules in a fresh adapter; raises UserError where they do not exist or do not fit."""
    from peft import LoraConfig, get_peft_model

    existing = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    targets = _choose_targets(lora, existing, model.config.model_type)
    where, fix = "model.lora.target_modules", f"use {'' if targets == 'all-linear' else 'all-linear, or '}some of "
    linear = _find_linear_layers(model)  # before PEFT wraps some of them
    if missing := sorted(set(targets) - existing) if isinstance(targets, list) else []:
        raise UserError(f"the model has no layer {', '.join(missing)}", where=where, fix=fix + ", ".join(linear))
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=targets,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        lora_dropout=lora.dropout,
        task_type="CAUSAL_LM",
        fan_in_fan_out=model.config.model_type == "gpt2",  # GPT-2 keeps its linear layers transposed
    )
    with torch.random.fork_rng(devices=[]), quiet_peft():
        torch.manual_seed(seed)
        try:
            peft = get_peft_model(model, config)
        except ValueError as error:  # a kind of layer that PEFT cannot adapt
            what = f"the adapter does not fit: {first_line(error)}"
            fitting = (name for name in linear if f"'{name}'" not in str(error))
            raise UserError(what, where=where, fix=fix + ", ".join(fitting)) from error
    return peft.eval()


def _choose_targets(lora: Lora, existing: Collection[str], model_type: str) -> str | list[str]:
    """Choose the layers to adapt, as PEFT takes them: names, or all-linear."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as CHOICES

    if lora.target_modules != "auto":
        return lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    for names in (ATTENTION, CHOICES.get(model_type)):
        if isinstance(names, list | tuple) and set(names) <= set(existing):
            return list(names)
    return "all-linear"


def _find_linear_layers(model: PreTrainedModel) -> list[str]:
    """List the layers that an adapter can cover: all linear ones (GPT-2's are Conv1D) but the output layer."""
    output = model.get_output_embeddings()
    linear = (n for n, m in model.named_modules() if type(m).__name__ in ("Linear", "Conv1D") and m is not output)
    return sorted({name.rpartition(".")[2] for name in linear})


def _find_ends(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop: Sequence[int | str], *, use_chat_template: bool
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Find the tokens and the texts that end a completion.

    They are generation_config.eos_token_id, the tokenizer's own, the token that the chat template writes after a turn,
    and `stop`. Raises UserError where there are none, and for a token of `stop` that the model does not have.
    """
    vocabulary = model.get_input_embeddings().num_embeddings  # a number beyond it is never sampled
    if beyond := [i for i in stop if isinstance(i, int) and i >= vocabulary]:
        raise UserError(f"the model has no token {beyond[0]}", where="model.stop", fix=f"give one below {vocabulary}")
    configured = model.generation_config.eos_token_id if model.generation_config else None
    special = special_ids(tokenizer)
    ids = [
        *(configured if isinstance(configured, list) else [configured]),
        tokenizer.eos_token_id,
        find_end_of_turn(tokenizer) if use_chat_template else None,
        *(i for i in stop if isinstance(i, int)),
        *(number for token, number in special.items() if token in stop),
    ]
    ends = tuple(sorted({i for i in ids if i is not None and 0 <= i < vocabulary}))
    if not ends:
        raise UserError(
            "the model names no end-of-text token",
            where="model.path",
            fix="set eos_token_id in its generation_config.json, or model.stop",
        )
    return ends, tuple(text for text in stop if isinstance(text, str) and text not in special)


def _find_anchor(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The `anchor` of a policy with this tokenizer."""
    try:
        tokens = tokenizer("a a", add_special_tokens=False)["input_ids"]
    except Exception:  # a tokenizer that knows no such letter, and has no token for what it does not know
        return ()
    drops = tokenizer.decode(tokens) == "a a" and not tokenizer.decode(tokens[1:]).startswith(" ")
    return tuple(tokens[:1]) if drops else ()
