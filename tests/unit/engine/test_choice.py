"""Which engine runs a model, and models that none runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlhf_cli.engine import choice, llama
from rlhf_cli.engine import transformers as library
from rlhf_cli.engine.choice import TOLERANCE, build_engine, logit_difference
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import EXIT_USAGE, UserError
from rlhf_cli.models.building import build_policy
from rlhf_cli.models.policy import Policy
from tests.unit.engine.families import family
from tests.unit.support import build, lora, move_adapter, tiny


def chosen(policy: Policy, engine: str = "auto") -> tuple[Any, list[str]]:
    notes: list[str] = []
    return build_engine(policy, tiny(engine=engine), notes.append), notes


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Qwen2", "Qwen3"])
def test_the_llama_family_is_native_without_a_note(name: str) -> None:
    engine, notes = chosen(family(name, scale=3.0, **({"sliding_window": None} if name == "Mistral" else {})))
    assert isinstance(engine, NativeEngine)
    assert notes == []


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (lambda: build(tiny("gpt2")), "gpt2 is not of the Llama family"),
        (lambda: family("Mistral", sliding_window=8), "its attention sees a sliding window"),
        (lambda: family("Llama", hidden_act="gelu"), "its activation is gelu"),
        (lambda: build(tiny(dora=True)), "its adapter is a DoRA"),
        (lambda: build(tiny(dropout=0.1)), "its adapter has dropout"),
        (lambda: build(tiny(target_modules=["q_proj", "embed_tokens"])), "its adapter covers more than the blocks"),
        (
            lambda: family("Llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}),
            "its positions are of the kind dynamic",
        ),
    ],
)
def test_every_other_model_runs_on_the_library_with_a_note(policy: Any, reason: str) -> None:
    engine, notes = chosen(policy())
    assert isinstance(engine, TransformersEngine)
    assert notes == [f"the model runs on transformers' own forward pass, which is slower: {reason}"]
    with pytest.raises(UserError) as caught:
        chosen(policy(), "native")
    assert caught.value.line() == (
        f"the native engine cannot run this model: {reason} (model.engine); fix: model.engine=auto"
    )


def test_layers_that_cannot_be_computed_again_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "blocks", lambda policy: ())  # as of a model with code of its own
    with pytest.raises(UserError) as caught:
        build_engine(build(tiny("gpt2")), tiny("gpt2", gradient_checkpointing=True), print)
    assert caught.value.line() == (
        "gpt2 models have no layers that can be computed again (model.gradient_checkpointing); "
        "fix: model.gradient_checkpointing=false"
    )


def test_bfloat16_is_native_too() -> None:
    policy = build_policy(tiny(layers=8), torch.device("cpu"), torch.bfloat16, 1)
    engine, _ = chosen(policy)
    assert isinstance(engine, NativeEngine)
    assert 1e-3 < logit_difference(policy, engine) < TOLERANCE[torch.bfloat16]


def test_the_library_on_request() -> None:
    engine, notes = chosen(build(tiny()), "transformers")
    assert isinstance(engine, TransformersEngine)
    assert notes == []


@pytest.mark.parametrize("found", [2 * TOLERANCE[torch.float32], float("nan")])
def test_a_native_engine_with_other_logits_is_rejected(found: float, monkeypatch: pytest.MonkeyPatch) -> None:
    of = {NativeEngine: found, TransformersEngine: 0.0}
    monkeypatch.setattr(choice, "logit_difference", lambda policy, engine: of[type(engine)])
    engine, notes = chosen(build(tiny()))
    assert isinstance(engine, TransformersEngine)
    assert notes[0].endswith("slower: its logits differ from the library's")


def test_a_model_that_cannot_be_packed_runs_on_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*given: Any, **named: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(choice, "NativeEngine", none)
    engine, notes = chosen(build(tiny()))
    assert isinstance(engine, TransformersEngine)
    assert notes[0].endswith("slower: a packed copy of its weights does not fit into memory")


@pytest.mark.parametrize("engine", [NativeEngine, TransformersEngine])
def test_the_logit_difference_covers_sampling_and_reading(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = build(tiny())
    found = engine(policy)
    assert logit_difference(policy, found) < 1e-5
    read = engine.hidden
    with monkeypatch.context() as off:
        off.setattr(engine, "hidden", lambda self, *given: read(self, *given) * 1.5)
        assert logit_difference(policy, found) > 0.1
    sample = engine.sample

    def other(self: Any, *given: Any) -> Any:
        rollout = sample(self, *given)
        rollout.hidden.mul_(1.5)
        return rollout

    monkeypatch.setattr(engine, "sample", other)
    assert logit_difference(policy, found) > 0.1


@pytest.mark.parametrize(
    ("name", "fields", "modules"),
    [
        (
            "RecurrentGemma",  # its blocks keep the state themselves
            {"lru_width": 16, "head_dim": 4, "block_types": ["recurrent", "attention"], "attention_window_size": 8},
            "all-linear",
        ),
        ("Mamba", {"state_size": 4, "time_step_rank": 4}, ["in_proj", "x_proj"]),
        ("Roberta", {}, "all-linear"),  # reads what comes behind a token too
    ],
)
def test_a_family_whose_completions_would_have_other_logits_is_refused(
    name: str, fields: dict[str, Any], modules: Any
) -> None:
    with pytest.raises(UserError) as caught:
        chosen(family(name, scale=3.0, adapter=lora(target_modules=modules), **fields))
    assert caught.value.line() == (
        f"{caught.value.what.split()[0]} models change their logits in a way that is not supported (model.path); "
        "fix: use a model of another family, such as Llama, Qwen, Mistral or Gemma"
    )
    assert caught.value.exit_code == EXIT_USAGE


def test_a_family_whose_state_is_not_copied_to_the_completions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """RecurrentGemma begins with zeros where a batch has another size than the one before."""
    keep = library._Reader.keep

    def forget(self: Any, rows: Any) -> None:
        is_copy = len(rows) > len(self._attention)
        keep(self, rows)
        for layer in self._cache.layers if is_copy else ():
            layer.values.zero_()

    policy = family("Gemma", scale=3.0, head_dim=4)
    assert isinstance(chosen(policy)[0], TransformersEngine)
    monkeypatch.setattr(library._Reader, "keep", forget)
    with pytest.raises(UserError, match=r"^gemma models change their logits"):
        chosen(policy)


def test_a_family_that_cannot_be_run_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*given: Any, **named: Any) -> None:
        raise RuntimeError("no such state\nand more")

    policy = family("Mistral", sliding_window=8)
    monkeypatch.setattr(TransformersEngine, "sample", other)
    with pytest.raises(UserError) as caught:
        chosen(policy)
    assert caught.value.what.startswith("mistral models cannot be run here (RuntimeError: no such state")
    assert (caught.value.where, caught.value.exit_code) == ("model.path", EXIT_USAGE)
    assert "\n" not in caught.value.line()


def test_what_does_not_fit_is_not_the_advice() -> None:
    with pytest.raises(UserError) as caught:
        family("Mamba", adapter=lora(target_modules="all-linear"), state_size=4, time_step_rank=4)
    assert caught.value.fix == "use some of dt_proj, in_proj, x_proj"


def test_nan_logits_are_refused() -> None:
    policy = build(tiny())
    with torch.no_grad():
        policy.causal.get_output_embeddings().weight[0, 0] = torch.nan
    with pytest.raises(UserError, match="change their logits"):
        chosen(policy)


def test_an_adapter_on_the_output_layer_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        chosen(build(tiny(target_modules=["q_proj", "lm_head"])))
    assert caught.value.line() == (
        "the adapter covers the output layer, which must stay frozen (model.lora.target_modules); "
        "fix: leave lm_head out, or use all-linear"
    )


def test_an_adapter_of_another_scale_is_native_as_well() -> None:
    assert isinstance(chosen(family("Llama", scale=3.0, adapter=lora(rslora=True)))[0], NativeEngine)


@pytest.mark.parametrize("wrong", [0.0, 1.5])
def test_an_engine_with_a_wrong_adapter_scale_is_rejected_before_training(
    wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first B is zero, and any scale of it would do."""
    right = llama._scaled_b
    monkeypatch.setattr(llama, "_scaled_b", lambda layer: wrong * right(layer))
    engine, notes = chosen(family("Llama", scale=3.0))
    assert isinstance(engine, TransformersEngine)
    assert notes[0].endswith("slower: its logits differ from the library's")


def test_the_check_leaves_the_adapter_as_it_was() -> None:
    policy = family("Qwen2", scale=3.0)
    move_adapter(policy, 0.1)
    before = {name: parameter.clone() for name, parameter in policy.parameters().items()}
    chosen(policy)
    assert all(torch.equal(parameter, before[name]) for name, parameter in policy.parameters().items())
