"""Broken and misleading model folders: each is refused in one line, and nothing is made up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from rlhf_cli.errors import UserError
from rlhf_cli.models import tiny as tiny_models
from rlhf_cli.models.files import check_files, refuse_broken_file
from rlhf_cli.models.loading import quiet_peft
from tests.unit.support import build, logits_of, move_adapter, pretrained, save_adapter, tiny

TOKENS = (72, 101, 108)
WEIGHTS = "model.safetensors"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama as a transformers folder."""
    folder = tmp_path_factory.mktemp("sound")
    model, tokenizer = tiny_models.build_tiny(tiny())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "model")


def rewrite(file: Path, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> None:
    save_file(dict(change(load_file(file))), file, metadata={"format": "pt"})


def configure(folder: Path, name: str = "config.json", **fields: Any) -> None:
    file = folder / name
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | fields))


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        build(pretrained(folder, **changes))
    return caught.value.line()


class TestWeights:
    """Every weight of the model comes from its files."""

    @pytest.mark.case(51)
    def test_a_missing_weight_is_named(self, folder: Path) -> None:
        rewrite(folder / WEIGHTS, lambda weights: {k: v for k, v in weights.items() if k != "lm_head.weight"})
        assert refusal(folder) == (
            f"the files of {folder} lack 1 of 21 weights: lm_head.weight (model.path); "
            "fix: give the whole model, as save_pretrained writes it"
        )

    @pytest.mark.case(51)
    def test_a_prefix_of_all_names_is_the_reason_given(self, folder: Path) -> None:
        rewrite(folder / WEIGHTS, lambda weights: {f"module.{k}": v for k, v in weights.items()})
        line = refusal(folder)
        assert "lack 21 of 21 weights: lm_head.weight, model.embed_tokens.weight, model.layers.0." in line
        assert "and 18 more (model.path); fix: every name in them begins with module.: rename them" in line

    @pytest.mark.case(65)
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            (
                {"architectures": ["Qwen2ForCausalLM"]},
                "config.json of {0} is that of a Qwen2ForCausalLM",
            ),
            ({"auto_map": {"AutoModel": "a.B"}}, "{0} brings code of its own, which does not run: it is loaded as"),
            ({"architectures": None}, None),
        ],
    )
    def test_another_class_is_said(self, folder: Path, fields: dict[str, Any], said: str | None) -> None:
        configure(folder, **fields)
        notes = build(pretrained(folder)).notes
        assert len(notes) == (said is not None)
        assert said is None or notes[0].startswith(said.format(folder))

    def test_another_shape_is_named(self, folder: Path) -> None:
        configure(folder, vocab_size=300)
        assert refusal(folder).startswith(
            f"lm_head.weight is [257, 16] in the files of {folder}, but [300, 16] by its config.json (model.path)"
        )

    def test_tied_weights_are_not_missing(self, folder: Path) -> None:
        configure(folder, tie_word_embeddings=True)
        rewrite(folder / WEIGHTS, lambda weights: {k: v for k, v in weights.items() if k != "lm_head.weight"})
        causal = build(pretrained(folder)).causal
        assert torch.equal(causal.lm_head.weight, causal.model.embed_tokens.weight)

    def test_a_weight_without_a_use_is_said(self, folder: Path) -> None:
        rewrite(folder / WEIGHTS, lambda weights: weights | {"score.weight": torch.ones(1, 16)})
        policy = build(pretrained(folder))
        assert policy.notes == (f"{folder} holds 1 weight that the model does not use: score.weight",)
        assert torch.equal(logits_of(policy, TOKENS), logits_of(build(tiny()), TOKENS))

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_are_not_finite_are_named(self, folder: Path, value: float) -> None:
        name = "model.layers.1.mlp.up_proj.weight"
        rewrite(folder / WEIGHTS, lambda weights: weights | {name: weights[name].index_fill(0, torch.tensor(3), value)})
        assert refusal(folder).startswith(f"{folder} holds weights that are not finite: {name} (model.path)")

    def test_an_output_layer_of_its_own_is_kept_whatever_config_json_says_of_ties(self, folder: Path) -> None:
        configure(folder, tie_word_embeddings=True)
        assert torch.equal(logits_of(build(pretrained(folder)), TOKENS), logits_of(build(tiny()), TOKENS))

    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_a_policy_holds_its_files(self, sound: Path, tmp_path: Path, data: st.DataObject) -> None:
        """Drop, rename or add a weight: no weight of a policy that was built differs from the files."""
        folder = shutil.copytree(sound, tmp_path / "model", dirs_exist_ok=True)
        stored = load_file(sound / WEIGHTS)
        name = data.draw(st.sampled_from(sorted(stored)))
        change = data.draw(st.sampled_from(["drop", "rename", "add", "none"]))
        if change in ("drop", "rename"):
            weight = stored.pop(name)
            if change == "rename":
                others = [f"module.{name}", name.replace("weight", "bias"), f"{name}.x"]
                stored[data.draw(st.sampled_from(others))] = weight
        elif change == "add":
            stored[f"extra.{name}"] = stored[name].clone()
        save_file(stored, folder / WEIGHTS, metadata={"format": "pt"})
        if change in ("drop", "rename"):
            assert name in refusal(folder)
            return
        policy = build(pretrained(folder))
        assert bool(policy.notes) == (change == "add")
        weights = {k.replace(".base_layer", ""): v for k, v in policy.causal.state_dict().items() if "lora" not in k}
        assert all(torch.equal(weight, stored[key]) for key, weight in weights.items())


class TestFiles:
    """A file that cannot be read is named, with its fix."""

    @pytest.mark.case(65)
    @pytest.mark.parametrize(
        ("name", "content", "what", "fix"),
        [
            (WEIGHTS, LFS, "is a pointer of Git LFS, not the file itself", "run `git lfs pull` in"),
            ("tokenizer.json", LFS, "is a pointer of Git LFS, not the file itself", "run `git lfs pull` in"),
            (WEIGHTS, "", "is empty", "download it again"),
            (WEIGHTS, "x" * 100, "is cut or damaged: ", "download it again"),
            ("config.json", "{", "is not JSON: ", "download it again"),
            ("tokenizer.json", "", "is empty", "download it again"),
            ("generation_config.json", "[" * 9999, "is not readable as JSON: it is nested", "download it again"),
            ("config.json", "9" * 5000, "is not readable as JSON: a number of 5,000 digits", "download it again"),
        ],
    )
    def test_it_is_named(self, folder: Path, name: str, content: str, what: str, fix: str) -> None:
        (folder / name).write_text(content)
        line = refusal(folder)
        assert line.startswith(f"{folder / name} {what}")
        assert f"(model.path); fix: {fix}" in line

    @pytest.mark.case(65)
    def test_a_cut_file_is_named(self, folder: Path) -> None:
        file = folder / WEIGHTS
        file.write_bytes(file.read_bytes()[:-100])
        assert refusal(folder).startswith(f"{file} is cut or damaged: ")

    @pytest.mark.case(67)
    @pytest.mark.parametrize(
        "fields",
        [
            {"hidden_size": "16"},
            {"num_hidden_layers": None},
            {"num_attention_heads": 0},
            {"num_attention_heads": 3},
            {"hidden_act": "no-such-function"},
            {"rope_parameters": {"rope_type": "no-such-type"}},
            {"model_type": ["llama"]},
            {"model_type": "no-such-model"},
            {"vocab_size": -1},
            {"max_position_embeddings": "many"},
        ],
        ids=str,
    )
    def test_an_odd_value_in_config_json_is_one_line(self, folder: Path, fields: dict[str, Any]) -> None:
        configure(folder, **fields)
        assert "(model.path); fix: " in refusal(folder)

    def test_sound_folders_have_none(self, sound: Path, tmp_path: Path) -> None:
        refuse_broken_file(sound, "model.path")
        refuse_broken_file(tmp_path / "none", "model.path")


class TestMisleading:
    """Files that would have another model loaded, or run code."""

    @pytest.mark.case(52)
    def test_an_adapter_beside_the_weights_is_not_added_unasked(self, folder: Path) -> None:
        trained = build(tiny())
        move_adapter(trained)
        save_adapter(trained, folder)
        assert refusal(folder) == (
            f"{folder} holds an adapter beside its weights, which would become part of the model unasked (model.path); "
            f"fix: start from both by model.adapter={folder}, or give a folder without adapter_config.json"
        )
        both = build(pretrained(folder, adapter=str(folder)))  # as the fix says
        with both.reference():
            torch.testing.assert_close(logits_of(both, TOKENS), logits_of(trained, TOKENS), rtol=0, atol=1e-4)

    def test_a_folder_that_is_an_adapter(self, tmp_path: Path) -> None:
        save_adapter(build(tiny()), tmp_path)
        assert refusal(tmp_path) == (
            f"{tmp_path} is an adapter, not a model (model.path); "
            f"fix: give the model that it was trained on, and model.adapter={tmp_path}"
        )

    @pytest.mark.case(66)
    @pytest.mark.parametrize(("method", "named"), [("gptq", "gptq"), (None, "by an unnamed method")])
    def test_quantised_weights(self, folder: Path, method: str | None, named: str) -> None:
        configure(folder, quantization_config={"quant_method": method, "bits": 4} if method else {})
        assert refusal(folder).startswith(f"its weights are quantised ({named}) (model.path); fix: give the model in")

    @pytest.mark.parametrize(
        ("fields", "what"),
        [
            ({"rope_theta": 500.0}, "gives rope_theta twice: 500.0 in the older keys, and 10000.0 in rope_parameters"),
            (
                {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 10000},
                "gives factor twice: 2.0 in the older keys, and None in rope_parameters",
            ),
            (
                {"rope_scaling": {"type": "default"}},
                "gives rope_theta twice: None in the older keys, and 10000.0 in rope_parameters",
            ),
            ({"max_position_embeddings": 0}, "has max_position_embeddings=0, so that the model could read nothing"),
            ({"text_config": {"max_position_embeddings": -1}}, "has max_position_embeddings=-1, so that the model"),
        ],
    )
    def test_a_config_that_contradicts_itself_about_positions(
        self, fields: dict[str, Any], what: str, folder: Path
    ) -> None:
        configure(folder, **fields)
        assert refusal(folder).startswith(f"config.json of {folder} {what}")

    @pytest.mark.parametrize(
        "fields",
        [
            {"rope_theta": 10000, "rope_scaling": None},
            {"rope_theta": 10000, "rope_scaling": {"type": "default", "rope_type": "default"}},
            {"rope_parameters": None, "rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_parameters": {"rope_type": "default"}, "rope_theta": 10000},
        ],
    )
    def test_positions_that_are_given_once_or_alike(self, fields: dict[str, Any], folder: Path) -> None:
        configure(folder, **fields)
        assert check_files(str(folder), None, "model.path") is None

    @pytest.mark.parametrize(("kind", "name"), [(torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3")])
    def test_weights_that_need_a_scale(self, folder: Path, kind: torch.dtype, name: str) -> None:
        key = "model.layers.0.mlp.down_proj.weight"
        rewrite(folder / WEIGHTS, lambda w: {**w, key: w[key].to(kind), "mask.bias": torch.ones(2, dtype=torch.int8)})
        assert refusal(folder) == (
            f"{key} of {folder} is stored as {name}, which means nothing without a scale (model.path); "
            "fix: give the model in bfloat16 or float32"
        )

    def test_two_sets_of_weights(self, folder: Path) -> None:
        (folder / f"{WEIGHTS}.index.json").write_text("{}")
        assert refusal(folder).startswith(
            f"{folder} holds the weights twice, in {WEIGHTS} and in the files of {WEIGHTS}."
        )

    def test_a_weight_in_two_files(self, folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        names, (one, two) = sorted(weights), ("model-1.safetensors", "model-2.safetensors")
        save_file({name: weights[name] for name in names[:2]}, folder / one, metadata={"format": "pt"})
        rest = {name: weights[name] for name in names[2:]} | {names[0]: 5 * weights[names[0]]}
        save_file(rest, folder / two, metadata={"format": "pt"})
        places = {name: one if name in names[:2] else two for name in names}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
        assert refusal(folder) == (
            f"{names[0]} of {folder} stands in two files, {one} and {two} (model.path); "
            "fix: remove it from the one that is not meant"
        )

    def test_a_revision_of_a_folder(self, folder: Path) -> None:
        assert refusal(folder, revision="v2") == (
            f"{folder} is a folder, which has no revisions: v2 would be ignored (model.revision); "
            "fix: leave it out, or give the model's name on the hub"
        )

    @pytest.mark.case(80)
    def test_an_index_that_names_a_pickle(self, folder: Path) -> None:
        names = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        torch.save(names, folder / "pytorch_model.bin")
        index = {"metadata": {}, "weight_map": dict.fromkeys(names, "pytorch_model.bin")}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        assert refusal(folder).startswith("its files name pickled weights, pytorch_model.bin, and a pickle can run any")

    @pytest.mark.case(80)
    def test_a_config_that_names_a_pickle(self, folder: Path) -> None:
        configure(folder, transformers_weights="weights.pt")
        assert refusal(folder).startswith("its files name pickled weights, weights.pt, and a pickle can run any code")

    @pytest.mark.case(80)
    @pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
    def test_attention_is_not_the_models_choice(self, folder: Path, key: str) -> None:
        """A name like this one is fetched from a hub and run."""
        configure(folder, **{key: "someone/kernels"})
        policy = build(pretrained(folder))
        assert policy.causal.config._attn_implementation == "sdpa"
        assert torch.equal(logits_of(policy, TOKENS), logits_of(build(tiny()), TOKENS))


class TestAdapter:
    """Every tensor of model.adapter changes the model, or it is refused."""

    @pytest.fixture
    def adapter(self, tmp_path: Path) -> Path:
        trained = build(tiny())
        move_adapter(trained)
        (tmp_path / "adapter").mkdir()
        save_adapter(trained, tmp_path / "adapter")
        return tmp_path / "adapter"

    @pytest.mark.case(53)
    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (
                lambda w: {k.replace("model.model.", "model.language_model."): v for k, v in w.items()},
                "the model has no place for",
            ),
            (lambda w: w | {"base_model.model.extra.lora_A.weight": torch.ones(2, 16)}, "the model has no place for"),
            (lambda w: dict(list(w.items())[1:]), "it lacks base_model.model.model.layers.0."),
            (lambda w: {k: v[:, :1].contiguous() for k, v in w.items()}, "Error(s) in loading state_dict"),
        ],
        ids=["renamed", "one too many", "one missing", "shapes"],
    )
    def test_it_fits_wholly(
        self, folder: Path, adapter: Path, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]], what: str
    ) -> None:
        rewrite(adapter / "adapter_model.safetensors", change)
        line = refusal(folder, adapter=str(adapter))
        assert line.startswith(f"the adapter {adapter} does not fit the model: {what}")
        assert "(model.adapter); fix: give the model that it was trained on" in line

    @pytest.mark.parametrize(
        ("fields", "what"),
        [
            ({"lora_alpha": None}, "has no number for lora_alpha"),
            ({"r": "4"}, "has no number for r"),
            ({"use_rslora": "false"}, "has neither true nor false for use_rslora"),
            (
                {"use_newlora": True, "zeta": 2, "off": None},
                "sets use_newlora, zeta, which this version of",
            ),
        ],
    )
    def test_nothing_of_its_config_is_passed_over(
        self, folder: Path, adapter: Path, fields: dict[str, Any], what: str
    ) -> None:
        """PEFT would take its own alpha, take a text for true, and leave out what it does not know."""
        configure(adapter, "adapter_config.json", **fields)
        line = refusal(folder, adapter=str(adapter))
        assert line.startswith(f"the adapter {adapter} does not fit the model: adapter_config.json {what}")

    def test_a_broken_file_is_named(self, folder: Path, adapter: Path) -> None:
        file = adapter / "adapter_model.safetensors"
        file.write_text(LFS)
        assert refusal(folder, adapter=str(adapter)).startswith(f"{file} is a pointer of Git LFS")

    @pytest.mark.parametrize("by_adapter", [True, False])
    def test_another_base_is_said(self, folder: Path, adapter: Path, by_adapter: bool) -> None:
        base = "other/Base-1B" if by_adapter else "/home/ann/Model"  # the folder is called model
        configure(adapter, "adapter_config.json", base_model_name_or_path=base)
        notes = build(pretrained(folder, adapter=str(adapter))).notes
        said = f"the adapter was trained on {base}, by its adapter_config.json, and is merged into {folder}"
        assert notes == ((said,) if by_adapter else ())

    def test_a_template_of_its_own_is_said(self, folder: Path, adapter: Path) -> None:
        (adapter / "chat_template.jinja").write_text("{{ messages }}")
        configure(adapter, "adapter_config.json", base_model_name_or_path=str(folder))
        notes = build(pretrained(folder, adapter=str(adapter))).notes
        assert notes == (f"the adapter {adapter} brings a chat template of its own, which is not used: the model's is",)

    def test_one_that_merging_would_change_is_refused(self, folder: Path, tmp_path: Path) -> None:
        base = build(tiny()).peft.unload()
        config = LoraConfig(r=2, target_modules=["q_proj"], layer_replication=[(0, 2), (0, 2)], task_type="CAUSAL_LM")
        with quiet_peft():
            trained = get_peft_model(base, config)
        for name, weight in trained.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(len(name)))
        trained.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
        line = refusal(folder, adapter=str(tmp_path / "adapter"))
        assert "does not fit the model: merged into the weights it has another effect" in line
