"""Build a random model with a byte tokenizer from a seed: nothing to download, small enough for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rlhf_cli.models.settings import Tiny

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

END = "<|end|>"
HEADS = 4


def build_tiny(settings: Tiny) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Build the model (float32) and its tokenizer; the same seed gives the same weights."""
    tokenizer, make = byte_tokenizer(), _llama if settings.architecture == "llama" else _gpt2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = make(settings, len(tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """Build a tokenizer of 256 bytes and an end token, without a chat template: prompts are raw text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)


def _llama(settings: Tiny, vocabulary: int) -> PreTrainedModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=settings.width,
            intermediate_size=2 * settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS // 2,
            max_position_embeddings=settings.context,
            tie_word_embeddings=False,
            initializer_range=0.1,
        )
    )


def _gpt2(settings: Tiny, vocabulary: int) -> PreTrainedModel:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_embd=settings.width,
            n_layer=settings.layers,
            n_head=HEADS,
            n_positions=settings.context,
            bos_token_id=vocabulary - 1,
            eos_token_id=vocabulary - 1,
            initializer_range=0.1,
        )
    )
