"""The embedded SmolLM2-135M-Instruct: what is promised of a model holds for a real one.

Its first layers are enough to find what differs between engines and libraries; all of it is in `scripts/test --all`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from rlhf_cli.cli import run
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.engine import Engine
from rlhf_cli.engine.choice import build_engine
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.opening import load_policy
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.functional.logprobs import token_logprobs
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models import loading
from rlhf_cli.models.policy import Policy
from rlhf_cli.models.settings import Pretrained
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptBatch, PromptRow
from tests.support import Outcome, lines

if TYPE_CHECKING:
    from transformers import PreTrainedModel

pytestmark = pytest.mark.real_model

Rlhf = Callable[..., Outcome]
PROMPTS = ("Write one sentence about a bus that is late.", "Describe rain.")


@pytest.fixture(scope="module", params=[3, pytest.param(30, marks=pytest.mark.slow)], ids="{} layers".format)
def layers(request: pytest.FixtureRequest) -> int:
    """How many of its layers the model has."""
    return int(request.param)


def cut(model: Any, layers: int) -> None:
    del model.model.layers[layers:]
    model.config.num_hidden_layers = layers
    model.config.layer_types = None


@pytest.fixture(autouse=True, scope="module")
def loaded_once(layers: int) -> Iterator[None]:
    """The weights are read once; whoever loads the model gets a copy of it."""
    load, kept = loading.load, dict[str, loading.Loaded]()

    def load_copy(settings: Pretrained, dtype: torch.dtype | None, device: torch.device) -> loading.Loaded:
        what = f"{settings} {dtype}"
        if what not in kept:
            kept[what] = load(settings, dtype, device)
            cut(kept[what].model, layers)
        return replace(kept[what], model=copy.deepcopy(kept[what].model))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load", load_copy)
        yield


@pytest.fixture(scope="module")
def trained(loaded_once: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two short steps; the reward is one that tells any two completions apart."""
    folder = tmp_path_factory.mktemp("real") / "out"
    small = (
        "dtype=float32",
        "steps=2",
        "prompts_per_step=2",
        "samples_per_prompt=2",
        "max_new_tokens=8",
        "evaluate.every=0",
    )
    quick = ("optimizer.lr=5e-3", "optimizer.warmup_steps=0", "reward=characters", "display=quiet")
    assert run(["train", *small, *quick, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def policy(trained: Path) -> Policy:
    """The policy of that run."""
    policy = load_policy(compose_config(["dtype=float32"]), print)
    policy.load_adapter(trained / "adapter")
    return policy


@pytest.fixture(scope="module")
def base_folder() -> str:
    settings = compose_config(["dtype=float32"]).model
    assert isinstance(settings, Pretrained)
    return loading.resolve(settings)


@pytest.fixture(scope="module")
def base_model(layers: int, base_folder: str) -> PreTrainedModel:
    """The model as transformers loads it; shared, so leave it as it is."""
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    cut(model, layers)
    return model.eval()


def test_the_adapter_moved(trained: Path) -> None:
    first, second = lines(trained / "metrics.jsonl")
    assert first["grad_norm"] > 0
    assert second["kl/seq"] > 0
    assert first["sampler/gap"] < 1e-3


def test_the_adapter_loads_in_peft_and_answers_as_rlhf_generate_does(
    trained: Path, base_model: PreTrainedModel, base_folder: str, rlhf: Rlhf
) -> None:
    from peft import PeftModel
    from transformers import AutoTokenizer

    ours = rlhf("generate", str(trained), *PROMPTS, "--max-new-tokens", "10").out.splitlines()
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    with loading.quiet_peft():
        model = PeftModel.from_pretrained(copy.deepcopy(base_model), str(trained / "adapter")).eval()
    for prompt, ours_text in zip(PROMPTS, ours, strict=True):
        chat = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        output = model.generate(**ids, max_new_tokens=10, do_sample=False)
        theirs = tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        assert ours_text == theirs


@torch.no_grad()
def test_adapter_off_is_the_untouched_base_model(policy: Policy, base_model: PreTrainedModel) -> None:
    ids = torch.tensor([policy.encode(PromptRow(PROMPTS[0], {}, "")).tokens])
    with policy.reference():
        off = policy.causal(input_ids=ids).logits
    assert torch.equal(off, base_model(input_ids=ids).logits)
    assert not torch.equal(policy.causal(input_ids=ids).logits, off)


@pytest.fixture(scope="module", params=["native", "transformers"])
def sampled(policy: Policy, request: pytest.FixtureRequest) -> tuple[Policy, PromptBatch, Engine]:
    settings = compose_config([f"model.engine={request.param}"]).model
    engine = build_engine(policy, settings, lambda said: None)
    assert engine.name == request.param
    prompts = tuple(policy.encode(PromptRow(text, {}, "")) for text in PROMPTS)
    return policy, PromptBatch(prompts, 2, tuple(seed_for(0, "test", i) for i in range(4))), engine


@torch.no_grad()
def test_sampling_logprobs_are_those_of_a_plain_forward(
    sampled: tuple[Policy, PromptBatch, Engine],
) -> None:
    policy, batch, engine = sampled
    rollout = engine.sample(batch, Sampling(6, 0.8), lambda: None)
    for row in range(4):
        tokens = rollout.tokens[row][rollout.completion_mask[row]]
        prompt = torch.tensor(batch.prompt_of(row).tokens)
        logits = policy.causal(input_ids=torch.cat([prompt, tokens])[None]).logits[0, len(prompt) - 1 : -1]
        plain = torch.log_softmax(logits / 0.8, -1).gather(1, tokens[:, None])[:, 0]
        torch.testing.assert_close(rollout.logprobs[row, : len(tokens)], plain, atol=1e-4, rtol=0)


def test_both_engines_have_the_same_gradient(policy: Policy) -> None:
    prompts = tuple(policy.encode(PromptRow(text, {}, "")) for text in PROMPTS)
    native, library = NativeEngine(policy), TransformersEngine(policy)
    rollout = native.sample(PromptBatch(prompts, 2, (1, 2, 3, 4)), Sampling(6, 1.0), lambda: None)
    tokens, found = rollout.tokens[rollout.completion_mask], []
    for engine in (native, library):
        logprobs = token_logprobs(engine.hidden(rollout, torch.arange(4)), tokens, engine.head, 1.0)
        loss = (logprobs * torch.linspace(-1, 2, len(logprobs))).sum()
        found.append(torch.autograd.grad(loss, list(policy.parameters().values())))
    for ours, theirs in zip(*found, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3 * float(theirs.abs().max()))
