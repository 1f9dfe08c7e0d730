"""Write a policy of the Llama family as a GGUF file, which llama.cpp and Ollama read.

The file holds the merged weights, the tokenizer and the chat template. llama.cpp splits texts into words by a rule that
the file only names, so a tokenizer with a rule that has no name here is refused. So is one of SentencePiece, whose
scores a transformers tokenizer no longer has.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from rlhf_cli.errors import UserError
from rlhf_cli.models.exports.merging import merge
from rlhf_cli.models.policy import Policy

FAMILIES: Final[Mapping[str, str]] = {
    "LlamaForCausalLM": "LLAMA",
    "MistralForCausalLM": "LLAMA",
    "Qwen2ForCausalLM": "QWEN2",
    "Qwen3ForCausalLM": "QWEN3",
}
"""The architecture of GGUF for a class of transformers."""
BLOCK: Final = 32
"""Weights that share a scale in q8_0."""
_WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_NAMES: Final[Mapping[tuple[str, ...], str]] = {
    ("bytes",): "gpt-2",
    ("digits", "bytes"): "smollm",
    (_WORDS.replace("DIGITS", r"\p{N}{1,3}"),): "llama-bpe",
    (_WORDS.replace("DIGITS", r"\p{N}"),): "qwen2",
}
"""The name that llama.cpp gives to a rule of splitting."""
_INSTEAD: Final = "write a transformers folder by rlhf merge, and convert it by llama.cpp's own script"


def write_gguf(policy: Policy, file: Path, kind: str) -> float:
    """Write the merged policy, whose weights are float32; `kind`, of its matrices, is f32, f16, bf16 or q8_0.

    Returns the largest difference of the merged logits, as `write_merged` does. Raises UserError for a family, a
    tokenizer or positions that cannot be written, and for weights beyond the numbers of `kind`.
    """
    from gguf import GGUFWriter

    architecture = _architecture(policy)
    vocabulary = _vocabulary(policy)
    factors = _rope_factors(policy)
    merged, difference = merge(policy)
    writer = GGUFWriter(file, architecture)
    _add_settings(writer, merged.config, kind)
    _add_tokenizer(writer, policy, vocabulary)
    _add_weights(writer, merged, kind)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return difference


def _refuse(what: str) -> UserError:
    return UserError(f"{what} cannot be written as GGUF here", where="rlhf export", fix=_INSTEAD)


def _architecture(policy: Policy) -> str:
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES

    config, name = policy.causal.config, type(policy.causal).__name__
    if name not in FAMILIES:
        raise _refuse(f"a model of the family {config.model_type} ({name})")
    if FAMILIES[name] == "LLAMA" and any(own.endswith(".bias") for own in policy.causal.state_dict()):
        raise _refuse("a Llama model with biases")
    return str(MODEL_ARCH_NAMES[MODEL_ARCH[FAMILIES[name]]])


def _rope_factors(policy: Policy) -> Tensor | None:
    """The divisors of the frequencies of positions, float32 [head / 2], as Llama 3 has them; None for other models."""
    config = policy.causal.config
    rope = config.rope_parameters
    kind = rope.get("rope_type", "default")
    if kind not in ("default", "linear", "llama3"):
        raise _refuse(f"positions of the kind {kind}")
    if kind != "llama3":
        return None
    size = _head_size(config)
    plain: Tensor = 1.0 / float(rope["rope_theta"]) ** (torch.arange(0, size, 2, dtype=torch.float64) / size)
    own: Tensor = policy.causal.base_model.rotary_emb.inv_freq.detach().double().cpu()
    return (plain / own).float()


def _head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _add_settings(writer: Any, config: Any, kind: str) -> None:
    from gguf import LlamaFileType, RopeScalingType

    writer.add_name(Path(config.name_or_path or "policy").name)
    writer.add_file_type(LlamaFileType["ALL_F32" if kind == "f32" else f"MOSTLY_{kind.upper()}"])
    if kind == "q8_0":
        writer.add_quantization_version(2)
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    writer.add_context_length(min(config.max_position_embeddings, window or config.max_position_embeddings))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(_head_size(config))
    writer.add_value_length(_head_size(config))
    writer.add_rope_dimension_count(_head_size(config))
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_vocab_size(config.vocab_size)
    if config.rope_parameters.get("rope_type") == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(config.rope_parameters["factor"]))


def _add_weights(writer: Any, model: Any, kind: str) -> None:
    """Add each weight under its name of GGUF: matrices in `kind`, vectors in float32."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    config = model.config
    architecture = MODEL_ARCH[FAMILIES[type(model).__name__]]
    names = get_tensor_name_map(architecture, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if architecture is MODEL_ARCH.LLAMA and "q_proj" in name:
            weight = _interleave(weight, config.num_attention_heads)
        elif architecture is MODEL_ARCH.LLAMA and "k_proj" in name:
            weight = _interleave(weight, config.num_key_value_heads)
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if own is None:
            raise _refuse(f"the weight {name}")
        _add(writer, own, weight.float(), kind if weight.dim() > 1 else "f32")


def _interleave(weight: Tensor, heads: int) -> Tensor:
    """Order the rows of each head as llama.cpp rotates them: the first of each half, the second of each half, ..."""
    rows = weight.shape[0] // heads
    return weight.reshape(heads, 2, rows // 2, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def _add(writer: Any, name: str, weight: Tensor, kind: str) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    if kind == "q8_0" and weight.shape[-1] % BLOCK:
        kind = "f16"
    if kind in ("f16", "q8_0") and float(weight.abs().max()) > torch.finfo(torch.float16).max:
        raise UserError(
            f"{name} holds weights beyond the numbers of {kind}", where="--type", fix="use --type bf16 or f32"
        )
    if kind in ("f32", "f16"):
        writer.add_tensor(name, weight.contiguous().to(torch.float32 if kind == "f32" else torch.float16).numpy())
        return
    own = GGMLQuantizationType[kind.upper()]
    writer.add_tensor(name, quantize(weight.contiguous().numpy(), own), raw_dtype=own)


def _vocabulary(policy: Policy) -> Mapping[str, Any]:
    """The tokenizer as its file describes it; raises UserError for one that llama.cpp would read in another way."""
    backend = getattr(policy.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _refuse("a tokenizer in Python")
    described: dict[str, Any] = json.loads(backend.to_str())
    model, normalizer = described["model"], described["normalizer"] or {}
    splits = _splits(described["pre_tokenizer"] or {})
    if model["type"] != "BPE" or model.get("byte_fallback") or not splits:
        raise _refuse(f"a tokenizer that is no byte-level BPE ({model['type']})")
    if normalizer.get("type", "NFC") != "NFC":  # llama.cpp reads texts as they are; NFC leaves almost all so
        raise _refuse(f"a tokenizer that changes texts ({normalizer['type']})")
    name = _NAMES.get(splits) if model["merges"] else "gpt-2"  # without merges, words make no difference
    if name is None:
        raise _refuse("a tokenizer that splits words by a rule without a name in llama.cpp")
    size = policy.causal.get_input_embeddings().num_embeddings
    if (words := max(model["vocab"].values()) + 1) > size:
        raise _refuse(f"a tokenizer with {words} words for a model of {size}")
    return {"pre": name, "merges": [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]}


def _splits(described: Mapping[str, Any]) -> tuple[str, ...]:
    """The rules by which a pre-tokenizer splits a text, if its last one is that of bytes; else none."""
    steps = described.get("pretokenizers", [described])
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return ()
    rules = ["bytes"] if steps[-1]["use_regex"] else []
    for step in reversed(steps[:-1]):
        is_digits = step["type"] == "Digits" and step["individual_digits"]
        is_split = step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]
        pattern = step["pattern"].get("Regex") if is_split else None
        rules.insert(0, "digits" if is_digits else str(pattern or step["type"]))
    return tuple(rules) or ("nothing",)


def _add_tokenizer(writer: Any, policy: Policy, vocabulary: Mapping[str, Any]) -> None:
    from gguf import TokenType

    tokenizer, size = policy.tokenizer, policy.causal.get_input_embeddings().num_embeddings
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for number in range(size):
        tokens.append(by_id.get(number, f"[PAD{number}]"))
        own = TokenType.NORMAL if number in by_id else TokenType.UNUSED
        if number in added:
            own = TokenType.CONTROL if added[number].special else TokenType.USER_DEFINED
        types.append(own)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary["pre"])
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(vocabulary["merges"])
    writer.add_eos_token_id(policy.end_token)
    if others := [token for token in policy.end_tokens if token != policy.end_token]:
        writer.add_eot_token_id(others[0])
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    ids = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(ids[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(ids[-1] == tokenizer.eos_token_id)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)
