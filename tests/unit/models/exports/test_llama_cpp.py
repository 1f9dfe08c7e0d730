"""models.exports.llama_cpp: the file is read back by transformers, which has a reader of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from rlhf_cli.errors import UserError
from rlhf_cli.models.exports.llama_cpp import write_gguf
from rlhf_cli.models.policy import Policy
from tests.unit.engine.families import family
from tests.unit.support import build, lora, move_adapter, tiny

TOKENS = torch.tensor([[5, 6, 7, 8, 9]])
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def trained(architecture: str = "llama", width: int = 32) -> Policy:
    policy = build(tiny(architecture, width=width))
    move_adapter(policy)
    return policy


def bpe(
    *before: pre_tokenizers.PreTokenizer, prefix: bool = False, regex: bool = True, lower: bool = False
) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with some merges, a chat template and special tokens."""
    tokenizer = Tokenizer(models.BPE())
    own = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, own])
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=280, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["the other then there", "a tool, and the snow"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1])
    fast.chat_template = TEMPLATE
    return fast


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    result: torch.Tensor = model(input_ids=TOKENS).logits
    return result.float()


def read_back(file: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)


def fields(file: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in GGUFReader(file).fields.items()}


@pytest.mark.parametrize(("kind", "tolerance"), [("f32", 1e-5), ("f16", 2e-3), ("bf16", 2e-2), ("q8_0", 0.1)])
def test_the_file_gives_the_logits_of_base_and_adapter(kind: str, tolerance: float, tmp_path: Path) -> None:
    policy = trained()
    before = logits(policy.causal)
    assert write_gguf(policy, tmp_path / "m.gguf", kind) < 1e-4
    difference = float((logits(read_back(tmp_path / "m.gguf")) - before).abs().max() / before.abs().max())
    assert difference < tolerance
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "m.gguf").tensors}
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert kinds["token_embd.weight"] == kind.upper()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("Llama", {"tie_word_embeddings": True}),
        ("Llama", {"tie_word_embeddings": True, "adapter": lora(target_modules=["lm_head"])}),
        ("Mistral", {"sliding_window": None}),
        ("Qwen2", {}),
        ("Qwen3", {"head_dim": 128}),  # transformers reads back no other
    ],
)
def test_each_family_is_read_back_as_it_is(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    policy = family(name, **fields)
    move_adapter(policy)
    before = logits(policy.causal)
    write_gguf(policy, tmp_path / "m.gguf", "f32")
    read = read_back(tmp_path / "m.gguf")
    assert torch.allclose(logits(read), before, atol=1e-4 * float(before.abs().max()))
    assert read.config.tie_word_embeddings == (policy.causal.config.tie_word_embeddings and "adapter" not in fields)


def test_the_tokenizer_and_the_template_are_in_it(tmp_path: Path) -> None:
    tokenizer = bpe(pre_tokenizers.Digits(individual_digits=True))
    policy = trained()
    policy.causal.resize_token_embeddings(288, mean_resizing=False)
    end = tokenizer.eos_token_id
    policy = replace(policy, tokenizer=tokenizer, use_chat_template=True, end_tokens=(end, 200))
    write_gguf(policy, tmp_path / "m.gguf", "f32")
    read = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    text = "the other tool there, and then <|im_end|>snow"
    assert read(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert read.chat_template == TEMPLATE
    found = fields(tmp_path / "m.gguf")
    assert found["tokenizer.ggml.pre"] == "smollm"
    assert found["tokenizer.ggml.eos_token_id"] == end
    assert found["tokenizer.ggml.eot_token_id"] == 200
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert found["tokenizer.ggml.token_type"][:3] == [3, 3, 1]
    assert len(found["tokenizer.ggml.tokens"]) == 288
    assert found["tokenizer.ggml.tokens"][-1] == "[PAD287]"


def test_the_way_of_splitting_has_its_name(tmp_path: Path) -> None:
    policy = trained()
    policy.causal.resize_token_embeddings(288, mean_resizing=False)
    tokenizer = bpe(pre_tokenizers.Split(Regex(QWEN), "isolated"), regex=False)
    write_gguf(replace(policy, tokenizer=tokenizer), tmp_path / "m.gguf", "f32")
    assert fields(tmp_path / "m.gguf")["tokenizer.ggml.pre"] == "qwen2"


def test_positions_of_llama_3_are_written_as_factors(tmp_path: Path) -> None:
    policy = trained()
    config = policy.causal.config
    config.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    policy.causal.base_model.rotary_emb = LlamaRotaryEmbedding(config)
    write_gguf(policy, tmp_path / "m.gguf", "f32")
    (factors,) = (one.data for one in GGUFReader(tmp_path / "m.gguf").tensors if one.name == "rope_freqs.weight")
    # waves shorter than 64 / 4 stay, longer ones than 64 / 1 are stretched eightfold; the heads have 4 or more of them
    waves = [2 * math.pi * 10000 ** (i / len(factors)) for i in range(len(factors))]
    assert waves[0] < 16
    assert waves[-1] > 64
    for wave, factor in zip(waves, factors.tolist(), strict=True):
        smooth = min(max((64 / wave - 1.0) / 3.0, 0.0), 1.0)
        assert factor == pytest.approx(1 / ((1 - smooth) / 8 + smooth), rel=1e-4)


def test_rows_that_fill_no_block_are_half_precision(tmp_path: Path) -> None:
    write_gguf(trained(width=16), tmp_path / "m.gguf", "q8_0")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "m.gguf").tensors}
    assert (kinds["token_embd.weight"], kinds["blk.0.ffn_down.weight"]) == ("F16", "Q8_0")


def strange(policy: Policy) -> Policy:
    policy.causal.config.rope_parameters = {"rope_type": "yarn", "rope_theta": 1e4}
    return policy


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: trained("gpt2"), r"a model of the family gpt2 \(GPT2LMHeadModel\)"),
        (lambda: family("Llama", attention_bias=True), "a Llama model with biases"),
        (lambda: strange(trained()), "positions of the kind yarn"),
        (lambda: replace(trained(), tokenizer=bpe()), "a tokenizer with 278 words for a model of 257"),
        (lambda: replace(trained(), tokenizer=bpe(prefix=True)), r"a tokenizer that is no byte-level BPE \(BPE\)"),
        (lambda: replace(trained(), tokenizer=bpe(lower=True)), r"a tokenizer that changes texts \(Lowercase\)"),
        (lambda: replace(trained(), tokenizer=object()), "a tokenizer in Python"),
        (
            lambda: replace(trained(), tokenizer=bpe(pre_tokenizers.Split(Regex(QWEN), "contiguous"))),
            "a tokenizer that splits words by a rule without a name in llama.cpp",
        ),
        (
            lambda: replace(trained(), tokenizer=bpe(pre_tokenizers.Whitespace())),
            "a tokenizer that splits words by a rule without a name in llama.cpp",
        ),
    ],
)
def test_what_would_be_read_in_another_way_is_refused(make: Callable[[], Policy], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        write_gguf(make(), tmp_path / "m.gguf", "f32")
    assert not any(tmp_path.iterdir())


def test_weights_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    policy = trained()
    with torch.no_grad():
        policy.causal.get_input_embeddings().weight[0, 0] = 1e5
    with pytest.raises(UserError, match=r"token_embd.weight holds weights beyond the numbers of f16 \(--type\)"):
        write_gguf(policy, tmp_path / "m.gguf", "f16")
