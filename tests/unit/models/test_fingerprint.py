"""The hashes by which a resumed run notices another model, tokenizer or template."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rlhf_cli.models.fingerprint import are_weights_of, text_fingerprint, weights_fingerprint
from rlhf_cli.models.policy import Policy
from tests.unit.support import build, move_adapter, tiny


def frozen(policy: Policy) -> str:
    return weights_fingerprint(policy.frozen().items())


def test_the_weights() -> None:
    one, moved, other = build(tiny()), build(tiny(), adapter_seed=2), build(tiny(seed=1))
    move_adapter(moved)
    assert frozen(one) == frozen(moved) != frozen(other)
    with torch.no_grad():
        one.causal.get_input_embeddings().weight[0, 0] += 1
    assert frozen(one) != frozen(moved)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_weights_of_a_run_are_known_in_its_dtype(dtype: str) -> None:
    policy, other = build(tiny()), build(tiny(seed=1))
    rounded = build(tiny())
    rounded.peft.to(getattr(torch, dtype))
    record = {"dtype": dtype, "model": {"sha256_sampled": frozen(rounded)}}

    def fits(policy: Policy, record: dict[str, Any] = record) -> bool:
        return are_weights_of(record, policy.causal, policy.frozen())

    assert fits(policy)
    assert fits(rounded)
    assert not fits(other)
    other.peft.to(torch.float16)  # coarser than the run's, so nobody knows
    assert fits(other)
    assert fits(other, {})
    assert fits(other, {"model": 3, "dtype": "float32"})


def words(*more: str, template: str = "{{ x }}", lower: bool = False) -> PreTrainedTokenizerBase:
    inner = Tokenizer(models.WordLevel({"?": 0, "It": 1} | {word: 2 + i for i, word in enumerate(more)}, unk_token="?"))
    inner.pre_tokenizer = None
    if lower:
        inner.normalizer = normalizers.Lowercase()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="?")
    made.chat_template = template
    return made


def test_how_text_is_read() -> None:
    first = text_fingerprint(words("a"), (0,), use_chat_template=True)
    assert first == text_fingerprint(words("a"), [0], use_chat_template=True)
    others = [
        text_fingerprint(words("b"), (0,), use_chat_template=True),
        text_fingerprint(words("a"), (0, 1), use_chat_template=True),
        text_fingerprint(words("a", template="{{ y }}"), (0,), use_chat_template=True),
        text_fingerprint(words("a"), (0,), use_chat_template=False),
    ]
    assert len({first, *others}) == 5
    raw = [text_fingerprint(words("a", template=text), (0,), use_chat_template=False) for text in "xy"]
    assert raw[0] == raw[1]  # a template that is not used
