"""The native engine against the library's own forward pass, gradients and generation, for every family it knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from rlhf_cli.engine import kernels
from rlhf_cli.engine.choice import logit_difference
from rlhf_cli.engine.kernels import Frozen, rms_norm, rotate, swiglu
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.reading import measure_distance
from rlhf_cli.functional.logprobs import attach, token_logprobs
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.functional.truncation import Truncation
from rlhf_cli.models.building import add_adapter
from rlhf_cli.models.policy import Policy
from rlhf_cli.ranks.rollouts import select_prompts
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Rollout
from tests.unit.engine.families import family
from tests.unit.support import batch_of, logits_of, lora, move_adapter

TEXTS = ("Hello there", "a", "What is rain? ", "xyz")
"""Four prompts of four lengths."""
ALIKE = ("Say this", "Say", "Say what is", "Say this")
"""Prompts that begin alike, one of them the beginning of the others."""
OFTEN = (*range(0, 257, 5),)
"""A fifth of the vocabulary ends a completion."""
ATTENTION = lora(target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip

OTHERWISE: dict[str, Any] = {
    "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1, "rope_parameters": LLAMA3
}  # fmt: skip
TWO = lora(target_modules=["v_proj", "up_proj"])

Drawn = Callable[[Sequence[str]], tuple[Rollout, list[Tensor]]]
POLICIES: dict[str, Callable[[], Policy]] = {
    "Llama": lambda: family("Llama", scale=3.0),
    "Llama, SmolLM2's": lambda: family("Llama", scale=3.0, tie_word_embeddings=True, adapter=ATTENTION),
    "Llama, biases, one key head, far positions": lambda: family("Llama", scale=3.0, **OTHERWISE),
    "Mistral, two modules": lambda: family("Mistral", scale=3.0, sliding_window=None, adapter=TWO),
    "Qwen2": lambda: family("Qwen2", scale=3.0),
    "Qwen3": lambda: family("Qwen3", scale=3.0, head_dim=8, adapter=lora(rslora=True)),
}  # fmt: skip


@pytest.fixture(params=POLICIES, scope="module")
def policy(request: pytest.FixtureRequest) -> Policy:
    """A policy of each family, away from its reference; completions end early, and prompts differ in length."""
    found = POLICIES[request.param]()
    move_adapter(found, 0.1)
    return replace(found, end_tokens=OFTEN)


@pytest.fixture(scope="module")
def engine(policy: Policy) -> NativeEngine:
    return NativeEngine(policy)


@pytest.fixture(params=[TEXTS, ALIKE], ids=["apart", "alike"])
def texts(request: pytest.FixtureRequest) -> Sequence[str]:
    return tuple(request.param)


def sampled(engine: NativeEngine, temperature: float = 1.3, texts: Sequence[str] = TEXTS, **more: int) -> Rollout:
    batch = batch_of(engine.policy, texts, 3)
    return engine.sample(batch, Sampling(9, temperature), lambda: None, **more)


def texts_of(rollout: Rollout, row: int) -> tuple[list[int], list[int]]:
    return list(rollout.batch.prompt_of(row).tokens), rollout.tokens[row][rollout.completion_mask[row]].tolist()


def library(policy: Policy, rollout: Rollout, row: int) -> Tensor:
    """The library's logits [T, V] of a row, from a pass of its own, without padding; differentiable."""
    prompt, completion = texts_of(rollout, row)
    logits: Tensor = policy.causal(input_ids=torch.tensor([prompt + completion]), use_cache=False).logits[0]
    return logits[len(prompt) - 1 : -1]


def library_of_all(policy: Policy, rollout: Rollout) -> list[Tensor]:
    """The same of every row, without gradients; rows of one length share a pass, so that there is no padding either."""
    texts = [texts_of(rollout, row) for row in range(len(rollout.batch))]
    by_length: dict[int, list[int]] = {}
    for row, (prompt, completion) in enumerate(texts):
        by_length.setdefault(len(prompt) + len(completion), []).append(row)
    found: dict[int, Tensor] = {}
    for rows in by_length.values():
        ids = torch.tensor([prompt + completion for prompt, completion in (texts[row] for row in rows)])
        with torch.no_grad():
            logits = policy.causal(input_ids=ids, use_cache=False).logits
        found |= {row: logits[place, len(texts[row][0]) - 1 : -1] for place, row in enumerate(rows)}
    return [found[row] for row in range(len(texts))]


def select_rows(rollout: Rollout, rows: list[int]) -> Tensor:
    return torch.cat([rollout.tokens[row][rollout.completion_mask[row]] for row in rows])


@pytest.mark.parametrize(("temperature", "texts"), [(0.0, ALIKE), (0.7, TEXTS), (1.0, ALIKE)])
def test_sampling_has_the_librarys_logprobs(
    policy: Policy, engine: NativeEngine, temperature: float, texts: Sequence[str]
) -> None:
    rollout = sampled(engine, temperature, texts=texts)
    assert temperature == 0 or len(set(rollout.lengths.tolist())) > 1
    for row, logits in enumerate(library_of_all(policy, rollout)):
        plain = torch.log_softmax(logits / (temperature or 1.0), -1)
        expected = plain.gather(1, select_rows(rollout, [row])[:, None])[:, 0]
        assert_close(rollout.logprobs[row][rollout.completion_mask[row]], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("rows", "texts"), [([0, 1, 2, 3, 4, 5], TEXTS), ([7, 2, 11, 3], ALIKE), ([4], TEXTS)])
def test_reading_has_the_librarys_logits(
    drawn: Drawn, engine: NativeEngine, rows: list[int], texts: Sequence[str]
) -> None:
    rollout, logits = drawn(texts)
    with torch.no_grad():
        found = engine.head(engine.hidden(rollout, torch.tensor(rows)))
    assert_close(found, torch.cat([logits[row] for row in rows]), rtol=0, atol=1e-4)


def test_the_reference_is_the_library_without_the_adapter(policy: Policy, engine: NativeEngine) -> None:
    rollout, rows = sampled(engine), [0, 4, 5, 9]
    with torch.no_grad():
        found = engine.head(engine.hidden(rollout, torch.tensor(rows), reference=True))
        with policy.reference():
            expected = torch.cat([library(policy, rollout, row) for row in rows])
        assert_close(found, expected, rtol=0, atol=1e-4)
        assert (expected - torch.cat([library(policy, rollout, row) for row in rows])).abs().max() > 0.1


def test_the_reference_samples_too(policy: Policy, engine: NativeEngine) -> None:
    rollout = sampled(engine, 1.0, reference=True)
    with policy.reference(), torch.no_grad():
        plain = torch.log_softmax(library(policy, rollout, 4), -1).gather(1, select_rows(rollout, [4])[:, None])[:, 0]
    assert_close(rollout.logprobs[4][rollout.completion_mask[4]], plain, rtol=0, atol=1e-4)
    assert not torch.equal(rollout.tokens[:, :1], sampled(engine, 1.0).tokens[:, :1])


@pytest.fixture(scope="module")
def drawn(policy: Policy, engine: NativeEngine) -> Drawn:
    """A rollout of the texts and the library's logits of each of its rows: once a policy; leave them as they are."""

    @cache
    def of(texts: Sequence[str]) -> tuple[Rollout, list[Tensor]]:
        rollout = sampled(engine, texts=texts)
        return rollout, library_of_all(policy, rollout)

    return of


def gradients(policy: Policy, logprobs: Tensor) -> dict[str, Tensor]:
    """Of a weighted sum of the log-probabilities, so that no two tokens count alike."""
    loss = (logprobs * torch.linspace(-1, 2, len(logprobs))).sum()
    found = torch.autograd.grad(loss, list(policy.parameters().values()))
    return dict(zip(policy.parameters(), found, strict=True))


@pytest.mark.parametrize(("recompute", "texts"), [(False, TEXTS), (False, ALIKE), (True, ALIKE)])
def test_the_adapters_gradients_are_the_librarys(
    policy: Policy, drawn: Drawn, recompute: bool, texts: Sequence[str]
) -> None:
    engine, rows = NativeEngine(policy, recompute=recompute), [0, 1, 2, 8, 4]
    rollout, _ = drawn(texts)
    tokens = select_rows(rollout, rows)
    read = engine.hidden(rollout, torch.tensor(rows))
    found = gradients(policy, token_logprobs(read, tokens, engine.head, 0.8))
    logits = torch.cat([library(policy, rollout, row) for row in rows])
    expected = gradients(policy, torch.log_softmax(logits / 0.8, -1).gather(1, tokens[:, None])[:, 0])
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0
        assert_close(found[name], gradient, rtol=0, atol=1e-3 * float(gradient.abs().max()), msg=name)


@pytest.mark.parametrize(("rows", "texts"), [([0, 1, 2, 3, 4, 5], TEXTS), ([7, 2, 10, 3], ALIKE), ([4], TEXTS)])
def test_the_rollouts_forward_pass_gives_the_gradients_of_a_new_one(
    policy: Policy, rows: list[int], texts: Sequence[str]
) -> None:
    engine, chosen = NativeEngine(policy), torch.tensor(rows)
    rollout = sampled(engine, texts=texts, remember=1)
    tokens, again = select_rows(rollout, rows), engine.reuse(rollout, chosen)
    sampler = torch.cat([rollout.hidden[row][rollout.completion_mask[row]] for row in rows])
    assert_close(again, sampler, rtol=0, atol=1e-6)
    keep = rollout.completion_mask[chosen]
    (slopes,) = measure_distance(rollout, engine, 4, lambda: None, slopes=True).slopes
    expected = gradients(policy, token_logprobs(engine.hidden(rollout, chosen), tokens, engine.head, 1.3))
    of_all = torch.cat([gradient.flatten() for gradient in expected.values()])
    for known in (False, True):  # the gradient of the log-probabilities, with which the output layer has no product
        again = engine.reuse(rollout, chosen)
        if known:
            logprobs = attach(rollout.logprobs[chosen][keep], again, slopes[chosen][keep])
        else:
            logprobs = token_logprobs(again, tokens, engine.head, 1.3)
        found = gradients(policy, logprobs)
        error = torch.cat([found[name].flatten() for name in expected]) - of_all
        assert error.norm() < 1e-5 * of_all.norm()


def test_the_rollouts_forward_pass_outlives_prompts_that_are_left_out(policy: Policy, texts: Sequence[str]) -> None:
    engine = NativeEngine(policy)
    whole = sampled(engine, texts=texts, remember=1)
    part = select_prompts(whole, [1, 3])  # row 4 is the second completion of the last prompt, row 10 before
    found, expected = engine.reuse(part, torch.tensor([4, 0])), engine.reuse(whole, torch.tensor([10, 3]))
    assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_forward_pass_is_remembered_until_the_next_rollout_or_until_it_is_forgotten() -> None:
    policy = POLICIES["Llama"]()
    engine, rows = NativeEngine(policy), torch.tensor([0, 5])
    rollout = sampled(engine, remember=1)
    before = engine.reuse(rollout, rows)
    move_adapter(policy, 0.2)
    assert_close(engine.reuse(rollout, rows), before, rtol=0, atol=1e-6)  # of the weights that sampled
    assert (engine.hidden(rollout, rows) - before).abs().max() > 0.01
    other = engine.sample(batch_of(policy, TEXTS, 3, first_seed=500), Sampling(9, 1.3), lambda: None, remember=1)
    for each in (rollout, other):  # side by side, as the shards of a step
        assert engine.reuse(each, rows).shape == engine.hidden(each, rows).shape
    sampled(engine, remember=2)
    with pytest.raises(ValueError, match="not remembered"):
        engine.reuse(other, rows)
    rollout = sampled(engine)
    with pytest.raises(ValueError, match="not remembered"):
        engine.reuse(rollout, rows)
    rollout = sampled(engine, remember=3)
    engine.forget()
    with pytest.raises(ValueError, match="not remembered"):
        engine.reuse(rollout, rows)


def test_greedy_text_is_the_librarys(policy: Policy, texts: Sequence[str]) -> None:
    never = replace(policy, end_tokens=(999,))
    batch = batch_of(never, texts)
    rollout = NativeEngine(never).sample(batch, Sampling(12, 0.0), lambda: None)
    longest = max(len(prompt.tokens) for prompt in batch.prompts)
    ids, mask = torch.zeros(4, longest, dtype=torch.long), torch.zeros(4, longest, dtype=torch.long)
    for row, prompt in enumerate(batch.prompts):
        ids[row, longest - len(prompt.tokens) :] = torch.tensor(prompt.tokens)
        mask[row, longest - len(prompt.tokens) :] = 1
    theirs = never.causal.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert torch.equal(rollout.tokens, theirs[:, longest:])


def test_a_completion_of_one_token_is_predicted_by_the_prompt_alone(policy: Policy, engine: NativeEngine) -> None:
    rollout = engine.sample(batch_of(policy, TEXTS, 2), Sampling(1, 1.0), lambda: None)
    with torch.no_grad():
        found = engine.head(engine.hidden(rollout, torch.arange(8)))
        assert_close(found, torch.cat([library(policy, rollout, row) for row in range(8)]), rtol=0, atol=1e-4)


def test_sampling_follows_a_changed_adapter() -> None:
    policy = POLICIES["Llama"]()
    engine = NativeEngine(policy)
    rollout = sampled(engine)
    move_adapter(policy, 0.2)
    with torch.no_grad():
        again = engine.head(engine.hidden(rollout, torch.tensor([0])))
        assert_close(again, library(policy, rollout, 0), rtol=0, atol=1e-4)
        rollout = sampled(engine)
        assert_close(engine.head(rollout.hidden[0, :1]), library(policy, rollout, 0)[:1], rtol=0, atol=1e-4)


def test_it_samples_from_the_tempered_softmax() -> None:
    policy = replace(POLICIES["Qwen2"](), end_tokens=(999,))
    move_adapter(policy, 0.1)
    draws = 20_000
    seeds = tuple(seed_for(0, "test", i) for i in range(draws))
    batch = replace(batch_of(policy, ["Hello"]), samples_per_prompt=draws, seeds=seeds)
    rollout = NativeEngine(policy).sample(batch, Sampling(1, 2.5), lambda: None)
    expected = draws * torch.softmax(logits_of(policy, batch.prompts[0].tokens)[-1].double() / 2.5, -1)
    counts = torch.bincount(rollout.tokens[:, 0], minlength=257).double()
    assert (expected >= 5).all()
    square, freedom = ((counts - expected) ** 2 / expected).sum(), 256
    # Wilson and Hilferty 1931: the cube root of chi^2 / k is normal with mean 1 - 2 / 9k and variance 2 / 9k
    z = ((square / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5
    assert abs(float(z)) < 4


def test_truncated_sampling_stays_in_its_sets(engine: NativeEngine) -> None:
    sampling = Sampling(9, 1.3, Truncation(5, 1.0, 0.0))
    rollout = engine.sample(batch_of(engine.policy, TEXTS, 3), sampling, lambda: None)
    assert rollout.kept is not None
    sizes = rollout.kept.offsets.diff()
    assert set(sizes.tolist()) == {5}
    chosen = rollout.tokens[rollout.completion_mask]
    assert (rollout.kept.ids.view(-1, 5) == chosen[:, None]).any(1).all()


def test_the_model_is_held_once() -> None:
    policy = POLICIES["Llama"]()
    before = policy.causal.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    NativeEngine(policy)
    for name, value in policy.causal.state_dict().items():
        assert torch.equal(value, before[name])
    attention = policy.causal.base_model.layers[0].self_attn
    places = {getattr(attention, f"{n}_proj").base_layer.weight.untyped_storage().data_ptr() for n in "qkv"}
    assert len(places) == 1


class TestKernels:
    """Hand-written gradients against autograd's of the plain formula, in float64."""

    @staticmethod
    def both(ours: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor], *shape: int) -> None:
        x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).float()
        one, other = (x.clone().requires_grad_() for _ in range(2))
        found, expected = ours(one), plain(other)
        assert_close(found, expected, rtol=1e-5, atol=1e-6)
        weights = torch.linspace(-1, 2, expected.numel()).view_as(expected)
        (found * weights).sum().backward()
        (expected * weights).sum().backward()
        assert one.grad is not None
        assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)

    def test_rms_norm(self) -> None:
        weight = torch.linspace(0.5, 2, 6)

        def plain(x: Tensor) -> Tensor:
            return weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-3).sqrt()

        self.both(lambda x: rms_norm(x, weight, 1e-3), plain, 5, 6)

    def test_rms_norm_by_hand(self) -> None:
        # mean of squares (9 + 16) / 2 = 12.5; 3 / sqrt(12.5) * 2, 4 / sqrt(12.5) * 1
        found = rms_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([2.0, 1.0]), 0.0)
        assert_close(found, torch.tensor([[1.6970563, 1.1313708]]))

    def test_swiglu(self) -> None:
        self.both(swiglu, lambda x: x[:, :4] * torch.sigmoid(x[:, :4]) * x[:, 4:], 5, 8)

    def test_rotate(self) -> None:
        angles = torch.linspace(0, 3, 6).view(3, 1, 2)

        def plain(x: Tensor) -> Tensor:
            pairs = torch.view_as_complex(torch.stack([x[..., :2], x[..., 2:]], -1))
            turned = pairs * torch.polar(torch.ones(()), angles)
            return torch.cat([turned.real, turned.imag], -1)

        self.both(lambda x: rotate(x, angles.cos(), angles.sin()), plain, 3, 5, 4)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("bias", [None, 1.0])
    def test_a_packed_product_is_the_plain_one(
        self, dtype: torch.dtype, bias: float | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not kernels._packing_works(dtype):
            pytest.skip("this torch cannot pack")
        weight = torch.randn(24, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
        offset = None if bias is None else torch.full((24,), bias, dtype=dtype)
        monkeypatch.setattr(kernels, "is_faster_packed", lambda weight: True)
        packed = Frozen(weight, offset)
        monkeypatch.setattr(kernels, "is_faster_packed", lambda weight: False)
        plain = Frozen(weight, offset)
        x = torch.randn(7, 16, generator=torch.Generator().manual_seed(2)).to(dtype)
        one, other = (x.clone().requires_grad_() for _ in range(2))
        close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
        assert_close(packed(one), plain(other), **close)
        packed(one).sum().backward()
        plain(other).sum().backward()
        assert_close(one.grad, other.grad, **close)

    @pytest.mark.parametrize(
        ("cpu", "dtype", "expected"),
        [("AuthenticAMD", torch.float32, True), ("GenuineIntel", torch.float32, False), ("", torch.float32, False),
         ("GenuineIntel", torch.bfloat16, True), ("AuthenticAMD", torch.float64, False)],
    )  # fmt: skip
    def test_packing_is_chosen_where_it_is_faster(
        self, cpu: str, dtype: torch.dtype, expected: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kernels, "cpu_vendor", lambda: cpu)
        monkeypatch.setattr(kernels, "_packing_works", lambda dtype: True)
        assert kernels.is_faster_packed(torch.zeros(2, 2, dtype=dtype)) is expected

    def test_a_torch_without_the_private_operators_multiplies_unpacked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kernels, "cpu_vendor", lambda: "AuthenticAMD")
        monkeypatch.setattr(kernels, "_packing_works", kernels._packing_works.__wrapped__)  # not what it knows already

        def gone(*given: Any) -> Tensor:
            raise AttributeError("_reorder_linear_weight")

        monkeypatch.setattr(kernels, "_pack", gone)
        found = Frozen(torch.eye(3))(torch.ones(1, 3))
        assert torch.equal(found, torch.ones(1, 3))


@pytest.mark.parametrize("name", ["Llama", "Qwen2"])
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the mappings of a process are read on Linux")
def test_the_models_file_leaves_memory(name: str, tmp_path: Path) -> None:
    """A mapped file is resident as long as one tensor of it lives."""
    random = family(name)
    random.peft.unload().save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    policy = replace(random, peft=add_adapter(model, lora(), 0))
    assert "model.safetensors" in Path("/proc/self/maps").read_text(), "there is nothing to show"
    engine = NativeEngine(policy)
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert logit_difference(policy, engine) < 1e-3
