"""Models from folders: prompt formats, end tokens, adapters as the reference, and what is refused."""

from __future__ import annotations

import json
import shutil
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch.testing import assert_close
from transformers.utils import logging

from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models import loading, memory
from rlhf_cli.models import tiny as tiny_models
from rlhf_cli.models.building import build_policy
from rlhf_cli.models.encoder import load_encoder
from rlhf_cli.models.exports.merging import write_merged
from rlhf_cli.models.fingerprint import are_weights_of, weights_fingerprint
from rlhf_cli.models.location import EMBEDDED
from rlhf_cli.models.policy import Policy
from rlhf_cli.types import Message, PromptRow
from tests.unit.support import batch_of, build, logits_of, lora, move_adapter, pretrained, save_adapter, tiny

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
TOKENS = (72, 101, 108, 108, 111)


def save_model(folder: Path, template: str | None) -> Path:
    """A tiny llama as a transformers folder."""
    model, tokenizer = tiny_models.build_tiny(tiny())
    tokenizer.chat_template = template
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("chat"), TEMPLATE)


@pytest.fixture(scope="session")
def raw_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("raw"), None)


def row(text: str) -> PromptRow:
    return PromptRow(text, {}, "f:1")


def test_a_model_from_a_folder_is_the_model_that_was_saved(raw_model: Path) -> None:
    assert torch.equal(logits_of(build(pretrained(raw_model)), TOKENS), logits_of(build(tiny()), TOKENS))


def test_loading_draws_no_bar(raw_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logging.enable_progress_bar()
    build(pretrained(raw_model))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("prompt_format", "text"),
    [("auto", "[user]Hello[assistant]"), ("chat", "[user]Hello[assistant]"), ("raw", "Hello")],
)
def test_with_a_chat_template(chat_model: Path, prompt_format: str, text: str) -> None:
    policy = build(pretrained(chat_model, prompt_format=prompt_format))
    prompt = policy.encode(row("Hello"))
    assert prompt.text == text
    assert policy.decode(prompt.tokens) == text


@pytest.mark.parametrize("prompt_format", ["auto", "raw"])
def test_without_a_chat_template(raw_model: Path, prompt_format: str) -> None:
    assert build(pretrained(raw_model, prompt_format=prompt_format)).encode(row("Hello")).text == "Hello"


def test_chat_demands_a_template(raw_model: Path) -> None:
    with pytest.raises(UserError) as caught:
        build(pretrained(raw_model, prompt_format="chat"))
    assert caught.value.line() == f"{raw_model} has no chat template (model.prompt_format); fix: use auto or raw"


class TestChat:
    """Prompts through a template."""

    @pytest.fixture
    def policy(self, chat_model: Path) -> Policy:
        return build(pretrained(chat_model))

    def test_turns_keep_their_roles(self, policy: Policy) -> None:
        turns = (
            Message("system", "Be kind."),
            Message("user", "Hi"),
            Message("assistant", "Yes?"),
            Message("user", "Go"),
        )
        prompt = policy.encode(PromptRow(turns, {}, "f:1"))
        assert prompt.text == "[system]Be kind.[user]Hi[assistant]Yes?[user]Go[assistant]"
        assert len(prompt.tokens) == len(prompt.text)

    def test_what_the_template_refuses_is_the_datas_fault(self, policy: Policy) -> None:
        with pytest.raises(UserError) as caught:
            policy.encode(PromptRow((Message("tool", "x"),), {}, "f:3"))
        assert caught.value.line() == (
            "the model's chat template refuses it: no tools here (f:3); "
            "fix: change the prompt, or use raw text: model.prompt_format=raw"
        )
        assert caught.value.exit_code == EXIT_DATA

    def test_a_template_cannot_reach_out_of_its_sandbox(self, policy: Policy) -> None:
        former = policy.tokenizer.chat_template
        policy.tokenizer.chat_template = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
        try:
            with pytest.raises(UserError, match="chat template refuses it"):
                policy.encode(row("x"))
        finally:
            policy.tokenizer.chat_template = former


@pytest.mark.case(57)
@pytest.mark.parametrize(
    ("configured", "ends"),
    [(256, (256,)), ([10, 13], (10, 13, 256)), ([256, 3], (3, 256)), (None, (256,))],
    ids=["the tokenizer's own", "others as well", "both", "none configured"],
)
def test_every_end_token_counts(raw_model: Path, tmp_path: Path, configured: Any, ends: tuple[int, ...]) -> None:
    folder = shutil.copytree(raw_model, tmp_path / "model")
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": configured}))
    policy = build(pretrained(folder))
    assert policy.end_tokens == ends
    assert policy.pad_token == ends[0]


@pytest.mark.case(57)
def test_the_end_of_a_turn_counts(tmp_path: Path) -> None:
    """The template ends turns with one token, and the tokenizer's end of text is another."""
    model, tokenizer = tiny_models.build_tiny(tiny())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.chat_template = TEMPLATE.replace("{{ m.content }}", "{{ m.content }}<|turn|>")
    model.resize_token_embeddings(258)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert build(pretrained(tmp_path)).end_tokens == (256, 257)
    assert build(pretrained(tmp_path, prompt_format="raw")).end_tokens == (256,)


def test_stop_names_tokens_and_texts(raw_model: Path) -> None:
    policy = build(pretrained(raw_model, stop=[10, "<|end|>", "END"]))
    assert (policy.end_tokens, policy.stop_texts) == ((10, 256), ("END",))
    assert build(tiny(stop=[10])).end_tokens == (10, 256)
    with pytest.raises(UserError) as caught:
        build(pretrained(raw_model, stop=[257]))
    assert caught.value.line() == "the model has no token 257 (model.stop); fix: give one below 257"


def test_a_model_that_cannot_end_is_refused(tmp_path: Path) -> None:
    model, tokenizer = tiny_models.build_tiny(tiny())
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token = None
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"^the model names no end-of-text token \(model\.path\)"):
        build(pretrained(tmp_path))


def test_an_adapter_names_its_model_as_the_settings_do(raw_model: Path) -> None:
    config = json.loads(build(pretrained(raw_model)).adapter_files()["adapter_config.json"])
    assert config["base_model_name_or_path"] == str(raw_model)


class TestAdapter:
    """model.adapter: an adapter to start from."""

    @pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # PEFT's own, inside from_pretrained
    def test_it_is_merged_so_that_it_is_the_reference(self, raw_model: Path, tmp_path: Path) -> None:
        trained = build(tiny())
        move_adapter(trained)
        save_adapter(trained, tmp_path)
        policy = build(pretrained(raw_model, adapter=str(tmp_path)))
        with policy.reference():
            reference = logits_of(policy, TOKENS)
        assert_close(reference, logits_of(trained, TOKENS), rtol=0, atol=1e-4)
        assert torch.equal(logits_of(policy, TOKENS), reference)  # the new adapter begins at zero
        assert float((reference - logits_of(build(tiny()), TOKENS)).abs().max()) > 0.1

    def test_a_run_means_the_adapter_that_it_exported(self, raw_model: Path, tmp_path: Path) -> None:
        (tmp_path / "run.json").write_text("{}")
        with pytest.raises(UserError, match="is a run without an exported adapter") as caught:
            build(pretrained(raw_model, adapter=str(tmp_path)))
        assert caught.value.where == "model.adapter"
        trained = build(tiny())
        move_adapter(trained)
        (tmp_path / "adapter").mkdir()
        save_adapter(trained, tmp_path / "adapter")
        of_run, of_folder = (build(pretrained(raw_model, adapter=str(p))) for p in (tmp_path, tmp_path / "adapter"))
        assert torch.equal(logits_of(of_run, TOKENS), logits_of(of_folder, TOKENS))

    @pytest.mark.parametrize("place", ["adapter", "checkpoints/step-00000002"])
    def test_a_run_on_other_weights_is_said(self, place: str, raw_model: Path, tmp_path: Path) -> None:
        trained, folder = build(tiny()), tmp_path / place
        move_adapter(trained)
        folder.mkdir(parents=True)
        save_adapter(trained, folder)
        for policy, notes in (
            (trained, ()),
            (build(tiny(seed=7)), (f"the adapter {folder} was trained on other weights than those of {raw_model}",)),
        ):
            known = {"sha256_sampled": weights_fingerprint(policy.frozen().items())}
            (tmp_path / "run.json").write_text(json.dumps({"dtype": "float32", "model": known}))
            loaded = build(pretrained(raw_model, adapter=str(folder)))
            assert tuple(note for note in loaded.notes if "other weights" in note) == notes

    def test_pickled_weights_are_not_read(self, raw_model: Path, tmp_path: Path) -> None:
        (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
        with pytest.raises(UserError) as caught:
            build(pretrained(raw_model, adapter=str(tmp_path)))
        assert caught.value.line() == (
            f"{tmp_path} holds no adapter_model.safetensors (model.adapter); "
            "fix: give a PEFT folder saved as safetensors; pickled weights are not read"
        )


class TestRefused:
    """One line for whatever cannot be loaded."""

    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError) as caught:
            build(pretrained(tmp_path / "none"))
        assert caught.value.line() == (
            f"{tmp_path / 'none'} is no folder (model.path); fix: give a transformers folder or a hub id"
        )

    def test_a_folder_without_a_model(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"holds no config\.json \(model\.path\)"):
            build(pretrained(tmp_path))

    @pytest.mark.parametrize("broken", ["model.safetensors", "tokenizer.json"])
    def test_a_folder_with_a_file_missing(self, raw_model: Path, tmp_path: Path, broken: str) -> None:
        folder = shutil.copytree(raw_model, tmp_path / "model")
        (folder / broken).unlink()
        with pytest.raises(UserError, match=rf"^cannot load the model {folder}: .*\(model\.path\)"):
            build(pretrained(folder))

    def test_a_model_that_cannot_be_reached_is_asked_for_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each file of a model costs half a minute of tries, and each try a warning."""
        asked: list[str] = []

        def cached_file(source: str, name: str, **options: object) -> None:
            asked.append(name)
            raise OSError("no network")

        monkeypatch.setattr(transformers.utils, "cached_file", cached_file)
        log = getLogger("huggingface_hub")
        log.setLevel("WARNING")
        with pytest.raises(UserError, match=r"^cannot load the model nobody/nothing: no network \(model\.path\)"):
            build(pretrained("nobody/nothing"))
        assert asked == ["config.json"]
        assert log.level == ERROR

    def test_a_pickled_model(self, raw_model: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(raw_model, tmp_path / "model")
        model, _ = tiny_models.build_tiny(tiny())
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        with pytest.raises(UserError) as caught:
            build(pretrained(folder))
        assert caught.value.line() == (
            f"{folder} holds pickled weights alone, pytorch_model.bin, and a pickle can run any code (model.path); "
            "fix: give a model saved as safetensors, as save_pretrained of transformers does it"
        )

    def test_a_folder_without_a_tokenizer_of_a_family_that_has_a_default(self, tmp_path: Path) -> None:
        """transformers makes up one that knows special tokens alone; the prompts were blamed."""
        config = transformers.Qwen2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=4, vocab_size=32)
        transformers.Qwen2ForCausalLM(config).save_pretrained(tmp_path)
        with pytest.raises(UserError) as caught:
            build(pretrained(tmp_path))
        assert caught.value.line() == (
            f"{tmp_path} holds no vocabulary of a tokenizer (model.path); "
            "fix: add the tokenizer's files, as save_pretrained does"
        )

    def test_a_model_of_another_version(self, raw_model: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(raw_model, tmp_path / "model")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "brandnew"}))
        with pytest.raises(UserError, match="model type `brandnew`") as caught:
            build(pretrained(folder))
        assert caught.value.fix.endswith("or install the version of transformers that knows it")

    def test_code_that_comes_with_a_model_is_not_run(self, raw_model: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(raw_model, tmp_path / "model")
        config = json.loads((folder / "config.json").read_text())
        config |= {
            "model_type": "mine",
            "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        with pytest.raises(UserError, match="cannot load the model"):
            build(pretrained(folder))
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("T5", "transformers has no causal language model of kind t5"),
            ("Bart", "bart models have an encoder"),
            ("ViT", "transformers has no causal language model of kind vit"),
        ],
    )
    def test_what_is_no_causal_language_model(self, tmp_path: Path, name: str, what: str) -> None:
        getattr(transformers, f"{name}Config")().save_pretrained(tmp_path)
        with pytest.raises(UserError) as caught:
            build(pretrained(tmp_path))
        assert caught.value.line() == (
            f"{what} (model.path); fix: use a causal language model, such as a Llama, Qwen, Mistral or Gemma"
        )

    def test_a_package_that_is_not_installed(self) -> None:
        with pytest.raises(UserError) as caught:
            loading.resolve(pretrained("package:no_such_package/model.gguf"))
        assert caught.value.what == "the package no_such_package is not installed"
        assert EMBEDDED in caught.value.fix

    def test_a_package_without_the_file(self) -> None:
        with pytest.raises(UserError) as caught:
            loading.resolve(pretrained("package:rlhf_cli/model.gguf"))
        assert caught.value.what == "rlhf_cli has no file model.gguf"


def test_phis_long_positions_are_not_mixed_with_short_ones(tmp_path: Path) -> None:
    """Beyond the original length a text has other angles, which a batch shares."""
    model, tokenizer = tiny_models.build_tiny(tiny())
    factors = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.0], "long_factor": [2.0, 9.0]}
    rope = factors | {"original_max_position_embeddings": 48, "partial_rotary_factor": 1.0}
    config = transformers.Phi3Config(
        **{name: getattr(model.config, name) for name in ("vocab_size", "hidden_size", "num_hidden_layers")},
        num_attention_heads=4, intermediate_size=32, max_position_embeddings=96, original_max_position_embeddings=48,
        rope_parameters=rope, pad_token_id=0,
    )  # fmt: skip
    transformers.Phi3ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert build(pretrained(tmp_path)).context == 48
    assert load_encoder(pretrained(tmp_path))[1] == 48


def test_what_the_library_keeps_in_float32_stays_so(tmp_path: Path) -> None:
    """Other experts would be chosen: the library's logits of the same dtype would be others."""
    model, tokenizer = tiny_models.build_tiny(tiny())
    config = transformers.Ernie4_5_MoeConfig(
        vocab_size=model.config.vocab_size, hidden_size=16, intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, moe_intermediate_size=8, moe_num_experts=8, moe_k=2,
        pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.Ernie4_5_MoeForCausalLM(config)
    router = "model.layers.1.mlp.gate.weight"
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.ndim > 1):
            weight.mul_(10)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    settings = pretrained(tmp_path / "base", lora=lora(target_modules="auto"))
    policy = build_policy(settings, torch.device("cpu"), torch.bfloat16, 1)
    assert policy.frozen()[f"base_model.model.{router}"].dtype == torch.float32
    expected = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(logits_of(policy, TOKENS), expected(input_ids=torch.tensor([TOKENS])).logits[0])
    write_merged(build(settings), tmp_path, torch.bfloat16)
    merged = load_file(tmp_path / "model.safetensors")
    assert merged[router].dtype == torch.float32
    assert merged["model.norm.weight"].dtype == torch.bfloat16
    record = {"dtype": "bfloat16", "model": {"sha256_sampled": policy.fingerprint}}
    exact = build(settings)  # as merge and model.adapter= load it: the run's routers were not rounded
    assert are_weights_of(record, exact.causal, exact.frozen())
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    save_adapter(policy, tmp_path / "run" / "adapter")
    assert build(pretrained(tmp_path / "base", adapter=str(tmp_path / "run"))).notes == ()


def test_a_value_heads_width_is_that_of_the_states(tmp_path: Path) -> None:
    """OPT-350M projects its states to another width before its output layer."""
    model, tokenizer = tiny_models.build_tiny(tiny())
    config = transformers.OPTConfig(
        vocab_size=model.config.vocab_size, hidden_size=16, word_embed_proj_dim=8, num_hidden_layers=2,
        num_attention_heads=4, ffn_dim=32, max_position_embeddings=64,
    )  # fmt: skip
    transformers.OPTForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy = build(pretrained(tmp_path), value_head=True)
    rollout = TransformersEngine(policy).sample(batch_of(policy, ["Hello"]), Sampling(3, 1.0), lambda: None)
    assert policy.values(rollout.hidden[0]).shape == (3,)


@pytest.mark.parametrize("kind", [WordLevel, BPE])
def test_a_tokenizer_of_digits_alone(kind: Any, raw_model: Path, tmp_path: Path) -> None:
    """It makes no token of a letter: one of words refuses it, one of pieces leaves it out."""
    shutil.copytree(raw_model, tmp_path, dirs_exist_ok=True)
    vocabulary = {"<end>": 0} | {str(number): number for number in range(1, 9)}
    inner = Tokenizer(WordLevel(vocabulary) if kind is WordLevel else BPE(vocabulary, []))
    inner.pre_tokenizer = WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>").save_pretrained(tmp_path)
    policy = build(pretrained(tmp_path))
    assert policy.encode(row("3 1 4")).tokens == (3, 1, 4)
    assert policy.decode([1, 5]) == "1 5"
    with pytest.raises(UserError, match=r"^the tokenizer (refuses the prompt: WordLevel|makes no token of)") as caught:
        policy.encoder.encode([row("2"), PromptRow("x", {}, "f:2")])
    assert (caught.value.where, caught.value.exit_code) == ("f:2", EXIT_DATA)


def test_a_hub_id_is_left_to_transformers() -> None:
    assert loading.resolve(pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")) == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_a_model_in_bfloat16_stays_so_where_the_cpu_has_it_unless_an_adapter_is_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = tiny_models.build_tiny(tiny())
    model.to(torch.bfloat16).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    own = build(pretrained(tmp_path / "model"))
    move_adapter(own)
    own.peft.save_pretrained(tmp_path / "adapter")
    cpu, with_adapter = torch.device("cpu"), {"adapter": str(tmp_path / "adapter")}
    for has_instructions, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(memory, "multiplies_bfloat16", lambda has=has_instructions: has)
        policy = build_policy(pretrained(tmp_path / "model"), cpu, None, 1)
        assert {weight.dtype for weight in policy.frozen().values()} == {expected}
        merged = build_policy(pretrained(tmp_path / "model", **with_adapter), cpu, None, 1)
        assert {weight.dtype for weight in merged.frozen().values()} == {torch.float32}
