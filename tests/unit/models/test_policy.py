"""The policy: the adapter starts as the reference, comes off without a trace, and travels as a plain PEFT folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from rlhf_cli.errors import EXIT_DATA, EXIT_RESUME, EXIT_USAGE, UserError
from rlhf_cli.models import tiny as tiny_models
from rlhf_cli.models.building import build_policy
from rlhf_cli.models.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from rlhf_cli.models.policy import Policy
from rlhf_cli.types import Message, PromptRow
from tests.unit.support import build, logits_of, lora, move_adapter, save_adapter, tiny

TOKENS = (72, 101, 108, 108, 111)
KINDS = [
    pytest.param(architecture, adapter, id=f"{architecture}-{name}")
    for architecture in ("llama", "gpt2")
    for name, adapter in (("lora", {}), ("dora", {"dora": True}), ("rslora", {"rslora": True}))
]


def base_logits(architecture: str) -> torch.Tensor:
    """The logits of the untouched base model, which no adapter ever came near."""
    model, _ = tiny_models.build_tiny(tiny(architecture))
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=torch.tensor([TOKENS]), use_cache=False).logits[0]
    return logits


@pytest.mark.parametrize(("architecture", "adapter"), KINDS)
def test_a_fresh_policy_is_the_reference(architecture: str, adapter: dict[str, bool]) -> None:
    policy = build(tiny(architecture, **adapter))
    assert_close(
        logits_of(policy, TOKENS), base_logits(architecture), rtol=0, atol=1e-6
    )  # DoRA divides by a norm and back


@pytest.mark.parametrize(("architecture", "adapter"), KINDS)
def test_after_training_the_adapter_off_is_still_the_base_model_bit_for_bit(
    architecture: str, adapter: dict[str, bool]
) -> None:
    policy = build(tiny(architecture, **adapter))
    move_adapter(policy)
    before = logits_of(policy, TOKENS)
    with policy.reference():
        assert torch.equal(logits_of(policy, TOKENS), base_logits(architecture))
    assert torch.equal(logits_of(policy, TOKENS), before)
    assert float((before - base_logits(architecture)).abs().max()) > 0.1


def test_the_adapter_comes_back_on_when_the_reference_fails(moved: Policy) -> None:
    before = logits_of(moved, TOKENS)
    with pytest.raises(ZeroDivisionError), moved.reference():
        raise ZeroDivisionError
    assert torch.equal(logits_of(moved, TOKENS), before)
    assert moved.parameters()


@pytest.mark.parametrize(("architecture", "adapter"), KINDS)
def test_an_adapter_comes_back_from_its_folder_bit_for_bit(
    architecture: str, adapter: dict[str, bool], tmp_path: Path
) -> None:
    one, other = build(tiny(architecture, **adapter)), build(tiny(architecture, **adapter), adapter_seed=9)
    move_adapter(one)
    save_adapter(one, tmp_path)
    other.load_adapter(tmp_path)
    theirs = other.parameters()
    assert all(torch.equal(parameter, theirs[name]) for name, parameter in one.parameters().items())
    assert torch.equal(logits_of(one, TOKENS), logits_of(other, TOKENS))
    assert sorted(path.name for path in tmp_path.iterdir()) == [ADAPTER_CONFIG, ADAPTER_WEIGHTS]


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # PEFT's own, inside from_pretrained
@pytest.mark.parametrize(("architecture", "adapter"), KINDS)
def test_the_folder_is_plain_peft(architecture: str, adapter: dict[str, bool], tmp_path: Path) -> None:
    from peft import PeftModel

    policy = build(tiny(architecture, **adapter))
    move_adapter(policy)
    save_adapter(policy, tmp_path)
    model, _ = tiny_models.build_tiny(tiny(architecture))
    loaded = PeftModel.from_pretrained(model, tmp_path).eval()
    with torch.no_grad():
        logits = loaded(input_ids=torch.tensor([TOKENS]), use_cache=False).logits[0]
    assert_close(logits, logits_of(policy, TOKENS), rtol=0, atol=1e-6)


def test_the_weights_are_saved_in_float32_whatever_the_model_is_in(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from rlhf_cli.models.building import build_policy

    policy = build_policy(tiny(), torch.device("cpu"), torch.bfloat16, 1)
    save_adapter(policy, tmp_path)
    assert policy.causal.dtype == torch.bfloat16
    assert {weight.dtype for weight in load_file(tmp_path / ADAPTER_WEIGHTS).values()} == {torch.float32}


class Upwards(set[str]):
    """A set in an order that another process may have it in."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__()))


class Downwards(Upwards):
    """The same in another order."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__(), reverse=True))


def test_the_bytes_of_the_folder_depend_on_nothing_but_the_adapter(tmp_path: Path) -> None:
    """Neither on the order of sets, which differs between processes, nor on where an object lies in memory."""
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    written = []
    for order in (Upwards, Downwards):
        policy = build(tiny(target_modules=names))
        settings = policy.peft.peft_config["default"]
        assert isinstance(settings.target_modules, set)
        settings.target_modules = order(settings.target_modules)
        folder = tmp_path / order.__name__
        folder.mkdir()
        save_adapter(policy, folder)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]
    text = written[0][ADAPTER_CONFIG].decode()
    assert " at 0x" not in text
    config = json.loads(text)
    assert config["target_modules"] == sorted(names)
    assert (config["r"], config["lora_alpha"], config["inference_mode"]) == (2, 4.0, True)


@pytest.mark.parametrize(
    "change", [{"rank": 3}, {"target_modules": ["q_proj"]}, {"layers": 1}, {"architecture": "gpt2"}], ids=str
)
def test_an_adapter_of_another_shape_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    save_adapter(build(tiny()), tmp_path)
    other = build(tiny(**change))
    before = {name: parameter.clone() for name, parameter in other.parameters().items()}
    with pytest.raises(UserError, match=r"^the adapter does not fit the model: .*lora_.*\.weight") as caught:
        other.load_adapter(tmp_path)
    assert caught.value.exit_code == EXIT_RESUME == 5
    assert (caught.value.where, caught.value.fix) == (
        str(tmp_path),
        "use the model and the model.lora settings it was trained with",
    )
    assert all(torch.equal(parameter, before[name]) for name, parameter in other.parameters().items())


def test_layers_the_model_does_not_have_are_refused_and_those_it_has_are_named() -> None:
    with pytest.raises(UserError) as caught:
        build(tiny(target_modules=["query", "value"]))
    error = caught.value
    assert (error.what, error.where) == ("the model has no layer query, value", "model.lora.target_modules")
    assert error.exit_code == EXIT_USAGE
    for name in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        assert name in error.fix


@pytest.mark.parametrize(
    ("architecture", "modules"), [("llama", ["k_proj", "o_proj", "q_proj", "v_proj"]), ("gpt2", ["c_attn"])]
)
def test_auto_adapts_attention(architecture: str, modules: list[str]) -> None:
    policy = build(tiny(architecture, target_modules="auto"))
    assert json.loads(policy.adapter_files()["adapter_config.json"])["target_modules"] == modules


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_all_linear_trains_every_linear_layer_but_the_output(architecture: str) -> None:
    policy = build(tiny(architecture))
    layers = {name.partition(".lora_")[0].rpartition(".")[2] for name in policy.parameters()}
    every = {
        "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
        "gpt2": {"c_attn", "c_proj", "c_fc"},
    }
    assert layers == every[architecture]
    assert not any("lora" not in name for name in policy.parameters())


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_parameters_come_in_the_order_of_their_names(architecture: str) -> None:
    names = list(build(tiny(architecture)).parameters())
    assert names == sorted(names)


def test_the_adapter_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    one = build(tiny(), adapter_seed=7).parameters()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    same, other = build(tiny(), adapter_seed=7).parameters(), build(tiny(), adapter_seed=8).parameters()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_rslora_scales_by_the_root_of_the_rank() -> None:
    from peft.tuners.lora import LoraLayer

    scalings = []
    for rslora in (False, True):
        layers = [m for m in build(tiny(rank=4, rslora=rslora)).peft.modules() if isinstance(m, LoraLayer)]
        scalings.append({layer.scaling["default"] for layer in layers})
    assert scalings == [{1.0}, {2.0}]  # alpha 4: 4 / 4 and 4 / sqrt 4


def test_dropout_is_off() -> None:
    policy = build(tiny("gpt2"))
    assert not any(module.training for module in policy.peft.modules())
    assert torch.equal(logits_of(policy, TOKENS), logits_of(policy, TOKENS))


class TestEncode:
    """Prompts in."""

    def test_raw_text_is_read_as_it_is(self, moved: Policy) -> None:
        prompt = moved.encode(PromptRow("Hello", {}, "f:1"))
        assert prompt.text == "Hello"
        assert bytes("Hello", "utf-8").decode() == moved.decode(prompt.tokens)
        assert len(prompt.tokens) == 5

    def test_a_chat_has_no_raw_text(self, moved: Policy) -> None:
        with pytest.raises(UserError) as caught:
            moved.encode(PromptRow((Message("user", "Hello"),), {}, "f:7"))
        assert caught.value.exit_code == EXIT_DATA == 3
        assert caught.value.line() == (
            "chat messages, but the prompts are raw text for this model (f:7); "
            "fix: give text, or a model with a chat template (model.prompt_format=chat)"
        )


def test_a_prompt_without_a_token_is_refused(moved: Policy) -> None:
    deaf = dataclasses.replace(moved, tokenizer=lambda texts, **options: {"input_ids": [[] for _ in texts]})
    with pytest.raises(UserError) as caught:
        deaf.encode(PromptRow("☃", {}, "f:7"))
    assert caught.value.exit_code == EXIT_DATA
    assert caught.value.line().startswith("the tokenizer makes no token of the prompt (f:7); fix: ")


def test_decoding_leaves_the_end_tokens_out(moved: Policy) -> None:
    tokens = moved.encode(PromptRow("Hi", {}, "f:1")).tokens
    assert moved.decode([*tokens, *moved.end_tokens]) == "Hi"


def test_the_tiny_policy_knows_its_end_token_and_its_context(moved: Policy) -> None:
    assert (moved.end_tokens, moved.pad_token, moved.context) == ((256,), 256, 64)


def test_a_policy_is_frozen(moved: Policy) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        moved.context = 3  # type: ignore[misc]  # the very mistake the test is about


def test_one_unknown_layer_among_known_ones_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        build(tiny("llama", lora=lora(target_modules=("q_proj", "nose"))))
    assert caught.value.line().startswith("the model has no layer nose (model.lora.target_modules)")
    assert "lm_head" not in caught.value.fix


class TestDropout:
    """On inside the block alone, from its own stream, in the adapter alone."""

    def moved(self, share: float, architecture: str = "llama") -> Policy:
        policy = build(tiny(architecture, dropout=share))
        move_adapter(policy)
        return policy

    @pytest.mark.parametrize("architecture", ["llama", "gpt2"])
    def test_it_is_off_outside_and_repeats_by_its_seed_inside(self, architecture: str) -> None:
        policy = self.moved(0.5, architecture)
        plain = logits_of(policy, TOKENS)
        state = torch.get_rng_state()
        drawn = []
        for seed in (1, 1, 2):
            with policy.dropout(seed):
                drawn.append(logits_of(policy, TOKENS))
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.allclose(drawn[0], drawn[2], atol=1e-3)
        assert not torch.allclose(drawn[0], plain, atol=1e-3)
        assert torch.equal(logits_of(policy, TOKENS), plain)
        assert torch.equal(torch.get_rng_state(), state)

    def test_the_reference_has_none(self) -> None:
        policy = self.moved(0.5)
        with policy.reference():
            plain = logits_of(policy, TOKENS)
            with policy.dropout(1):
                assert torch.equal(logits_of(policy, TOKENS), plain)

    def test_without_a_share_nothing_is_drawn(self) -> None:
        policy = self.moved(0.0)
        plain = logits_of(policy, TOKENS)
        with policy.dropout(1):
            assert torch.equal(logits_of(policy, TOKENS), plain)

    def test_it_is_off_again_after_an_error(self) -> None:
        policy = self.moved(0.5)
        plain = logits_of(policy, TOKENS)
        with pytest.raises(ZeroDivisionError), policy.dropout(1):
            raise ZeroDivisionError
        assert torch.equal(logits_of(policy, TOKENS), plain)


def test_in_bfloat16_the_angles_of_positions_stay_float32() -> None:
    policy = build_policy(tiny(), torch.device("cpu"), torch.bfloat16, 1)
    assert {p.dtype for name, p in policy.causal.named_parameters() if "lora" not in name} == {torch.bfloat16}
    assert policy.causal.base_model.rotary_emb.inv_freq.dtype == torch.float32
