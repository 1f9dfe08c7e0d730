"""A trained policy with its head, as a sequence classification model of transformers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertLMHeadModel

from rlhf_cli.errors import UserError
from rlhf_cli.models.building import build_policy
from rlhf_cli.models.classifier import check_classifier, write_classifier
from rlhf_cli.models.policy import Policy
from rlhf_cli.models.reward_model import make_encoder, make_score
from rlhf_cli.models.value_head import ValueHead
from tests.unit.support import build, move_adapter, tiny

PROMPTS = ["Say it.", "What?", "A longer prompt than those."]
TEXTS = ["Yes.", "No, never.", "Perhaps tomorrow."]
CHAT = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}<|end|>{% endfor %}"
HOW: dict[str, Any] = {
    "revision": None, "label": None, "activation": "none", "reads": "auto", "max_tokens": 1024, "batch_size": 2,
    "device": "cpu", "dtype": "auto",
}  # fmt: skip


def trained(architecture: str = "llama", **adapter: Any) -> Policy:
    policy = build(tiny(architecture, **adapter), value_head=True)
    move_adapter(policy)
    assert policy.value_head is not None
    nn.init.zeros_(policy.value_head.linear.bias)
    nn.init.normal_(policy.value_head.linear.weight, generator=torch.Generator().manual_seed(7))
    return policy


@torch.no_grad()
def scores_of(policy: Policy, reads: str = "auto") -> list[float]:
    """The head on the state of the last token, as training has it."""
    encode = make_encoder(reads, policy.tokenizer, policy.context)
    body = getattr(policy.causal, policy.causal.base_model_prefix)
    scores = []
    for prompt, text in zip(PROMPTS, TEXTS, strict=True):
        states = body(input_ids=torch.tensor([encode(prompt, text)[0]])).last_hidden_state
        scores.append(float(policy.values(states[0, -1:])))
    return scores


@pytest.mark.parametrize(
    ("architecture", "adapter"), [("llama", {}), ("gpt2", {}), ("llama", {"dora": True}), ("gpt2", {"rslora": True})]
)
def test_reward_model_and_plain_transformers_score_as_training_does(
    architecture: str, adapter: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    policy = trained(architecture, **adapter)
    expected = scores_of(policy)
    assert len({round(score, 2) for score in expected}) == 3
    write_classifier(policy, tmp_path, "auto")
    assert scores_of(policy) == expected  # the policy itself is as it was
    assert make_score(str(tmp_path), **HOW)(PROMPTS, TEXTS) == pytest.approx(expected, abs=1e-5)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer([p + t for p, t in zip(PROMPTS, TEXTS, strict=True)], padding=True, return_tensors="pt")
    with torch.no_grad():
        assert model(**batch).logits.squeeze(1).tolist() == pytest.approx(expected, abs=1e-5)
    assert model.config.num_labels == 1
    assert json.loads((tmp_path / "config.json").read_text())["id2label"] == {"0": "score"}
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert capfd.readouterr() == ("", "")


def test_the_score_is_of_what_was_read_in_training(tmp_path: Path) -> None:
    policy = trained()
    policy.tokenizer.chat_template = CHAT
    write_classifier(policy, tmp_path, "completion")
    score = make_score(str(tmp_path), **HOW)
    assert score(PROMPTS, TEXTS) == pytest.approx(scores_of(policy, "completion"), abs=1e-5)
    assert score(["other"] * 3, TEXTS) == score(PROMPTS, TEXTS)
    told = make_score(str(tmp_path), **HOW | {"reads": "text"})
    assert told(PROMPTS, TEXTS) == pytest.approx(scores_of(policy, "text"), abs=1e-5)


def test_a_chat_that_ends_with_the_padding_token_gets_another_one(tmp_path: Path) -> None:
    policy = trained()
    policy.tokenizer.chat_template = CHAT
    policy.tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>", "!"]})
    write_classifier(policy, tmp_path, "auto")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert policy.tokenizer.pad_token == "<|end|>"
    assert (tokenizer.pad_token, tokenizer.chat_template) == ("!", CHAT)
    batch = tokenizer(
        [f"<user>{p}<|end|><assistant>{t}<|end|>" for p, t in zip(PROMPTS, TEXTS, strict=True)],
        padding=True,
        return_tensors="pt",
    )
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert model(**batch).logits.squeeze(1).tolist() == pytest.approx(scores_of(policy), abs=1e-5)


def test_the_weights_of_a_bfloat16_policy_are_merged_in_float32(tmp_path: Path) -> None:
    policy = build_policy(tiny(), torch.device("cpu"), torch.bfloat16, 1, head=partial(ValueHead, shared_trunk=False))
    move_adapter(policy)
    name = "model.layers.0.self_attn.q_proj"
    layer: Any = policy.causal.get_submodule(name)
    expected = layer.base_layer.weight.float() + layer.get_delta_weight("default")
    assert layer.base_layer.weight.dtype == torch.bfloat16
    write_classifier(policy, tmp_path, "auto")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert model.dtype == torch.float32
    torch.testing.assert_close(model.get_submodule(name).weight, expected, atol=1e-6, rtol=1e-6)


def test_an_architecture_without_such_a_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = trained()
    check_classifier(policy)
    bert = BertLMHeadModel(BertConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1))
    monkeypatch.setattr(type(policy.peft), "get_base_model", lambda self: bert)
    with pytest.raises(UserError, match=r"no sequence classification model of the architecture bert .*model\.path"):
        check_classifier(policy)
    bert.config.__class__ = type("UnknownConfig", (type(bert.config),), {})
    with pytest.raises(UserError, match="architecture bert"):
        check_classifier(policy)
