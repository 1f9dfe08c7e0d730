"""The random model and its byte tokenizer."""

from __future__ import annotations

import pytest
import torch

from rlhf_cli.models.tiny import END, build_tiny, byte_tokenizer
from tests.unit.support import tiny


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_same_seed_gives_the_same_weights(architecture: str) -> None:
    one, same, other = (build_tiny(tiny(architecture, seed=seed))[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = build_tiny(tiny())[0].state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    other = build_tiny(tiny())[0].state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("architecture", "model_type"), [("llama", "llama"), ("gpt2", "gpt2")])
def test_the_settings_are_the_models(architecture: str, model_type: str) -> None:
    config = build_tiny(tiny(architecture, layers=3, width=24, context=40))[0].config
    found = (config.model_type, config.num_hidden_layers, config.hidden_size, config.max_position_embeddings)
    assert found == (model_type, 3, 24, 40)
    assert config.vocab_size == 257


def test_the_tokenizer_has_256_bytes_and_an_end_token() -> None:
    tokenizer = byte_tokenizer()
    assert len(tokenizer) == 257
    assert tokenizer.eos_token == tokenizer.pad_token == END
    assert tokenizer.eos_token_id == 256
    assert not tokenizer.chat_template


@pytest.mark.parametrize(
    "text", ["a", "hello  world ", "naïve 汉字 🙂", "\x00\x1b[31m\u202e", "line\nbreak\t.", " , ' don't . !"]
)
def test_a_byte_is_a_token_and_any_text_comes_back(text: str) -> None:
    tokenizer = byte_tokenizer()
    tokens = tokenizer(text)["input_ids"]
    assert len(tokens) == len(text.encode())
    assert tokenizer.decode(tokens, skip_special_tokens=True) == text


def test_bytes_that_are_no_text_decode_without_an_error() -> None:
    tokenizer = byte_tokenizer()
    (lead, _) = tokenizer("é")["input_ids"]
    assert tokenizer.decode([lead]) == "\N{REPLACEMENT CHARACTER}"
