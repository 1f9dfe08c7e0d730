"""A completion has the same bits alone as in a batch, for any threads; and the machine is tried for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlhf_cli.engine import aligned, kernels
from rlhf_cli.engine.aligned import may_be_invariant
from rlhf_cli.engine.choice import build_engine
from rlhf_cli.engine.kernels import Frozen, is_faster_packed
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.reading import measure_gap
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import UserError
from rlhf_cli.functional.logprobs import token_logprobs
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.policy import Policy
from rlhf_cli.types import PromptBatch, Rollout
from tests.unit.engine.families import family
from tests.unit.support import batch_of, build, move_adapter, tiny

TEXTS = ("Say this", "a", "Say what is the meaning of it", "xyz", "Say")
SAMPLES = 2
DTYPES = (torch.float32, torch.bfloat16)

pytestmark = pytest.mark.skipif(not is_faster_packed(torch.ones(8, 8)), reason="invariance is promised on an AMD CPU")


@pytest.fixture(scope="module", params=[(name, dtype) for name in ("Llama", "Qwen3") for dtype in DTYPES])
def engine(request: pytest.FixtureRequest) -> NativeEngine:
    return engine_of(*request.param)


def engine_of(name: str, dtype: torch.dtype = torch.float32) -> NativeEngine:
    """An engine whose completions end early, so that the batch shrinks."""
    policy = family(name, scale=3.0)
    move_adapter(policy, 0.1)
    as_loaded(policy, dtype)
    return NativeEngine(replace(policy, end_tokens=(*range(0, 257, 20),)), invariant=True)


def as_loaded(policy: Policy, dtype: torch.dtype) -> None:
    """The model in another dtype; its adapter stays float32."""
    adapter = {name: parameter.data for name, parameter in policy.parameters().items()}
    policy.causal.to(dtype)
    for name, parameter in policy.parameters().items():
        parameter.data = adapter[name]


def sample(engine: NativeEngine, temperature: float, prompts: list[int]) -> Rollout:
    batch = batch_of(engine.policy, TEXTS, SAMPLES)
    seeds = tuple(batch.seeds[prompt * SAMPLES + number] for prompt in prompts for number in range(SAMPLES))
    part = PromptBatch(tuple(batch.prompts[prompt] for prompt in prompts), SAMPLES, seeds)
    return engine.sample(part, Sampling(20, temperature), lambda: None)


def rows_of(rollout: Rollout, row: int) -> tuple[Tensor, ...]:
    keep = rollout.completion_mask[row]
    return rollout.tokens[row][keep], rollout.logprobs[row][keep], rollout.hidden[row][keep]


def is_same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_completion_alone_has_the_bits_that_it_has_in_a_batch(engine: NativeEngine, temperature: float) -> None:
    whole = sample(engine, temperature, [0, 1, 2, 3, 4])
    for prompts in ([0], [1], [2], [3, 0], [4, 1, 2]):
        part = sample(engine, temperature, prompts)
        for place, prompt in enumerate(prompts):
            for number in range(SAMPLES):
                alone = rows_of(part, place * SAMPLES + number)
                assert is_same(alone, rows_of(whole, prompt * SAMPLES + number)), (prompts, prompt)


def test_one_thread_and_two_have_the_same_bits() -> None:
    engine, found = engine_of("Llama"), []
    for number in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(number)
        try:
            rollout = sample(engine, 1.0, [0, 2])
            found.append((rollout.hidden, *gradients(engine, rollout)))
        finally:
            torch.set_num_threads(before)
    assert is_same(*found)


def gradients(engine: NativeEngine, rollout: Rollout) -> list[Tensor]:
    rows, tokens = torch.arange(len(rollout.batch)), rollout.tokens[rollout.completion_mask]
    logprobs = token_logprobs(engine.hidden(rollout, rows), tokens, engine.head, 1.0)
    return list(torch.autograd.grad(logprobs.sum(), list(engine.policy.parameters().values())))


def test_recomputed_activations_have_the_same_gradient(engine: NativeEngine) -> None:
    rollout, again = sample(engine, 1.0, [0, 2]), NativeEngine(engine.policy, recompute=True, invariant=True)
    assert is_same(tuple(gradients(engine, rollout)), tuple(gradients(again, rollout)))


@pytest.mark.parametrize("reference", [False, True])
@torch.no_grad()
def test_any_microbatch_reads_the_same_bits(engine: NativeEngine, reference: bool) -> None:
    rollout = sample(engine, 1.0, [0, 1, 2, 3, 4])
    rows = torch.arange(len(rollout.batch))
    lengths = rollout.lengths.tolist()
    whole = engine.hidden(rollout, rows, reference=reference).split(lengths)
    for part in (*rows.split(1), *rows.split(3), rows.flip(0)):
        read = engine.hidden(rollout, part, reference=reference).split([lengths[row] for row in part])
        assert is_same(read, tuple(whole[row] for row in part))


def test_without_it_the_neighbours_show(engine: NativeEngine) -> None:
    plain = NativeEngine(engine.policy)
    whole = sample(plain, 1.0, [0, 1, 2, 3, 4])
    parts = [sample(plain, 1.0, [prompt]) for prompt in range(5)]
    assert not all(is_same(rows_of(part, 0), rows_of(whole, SAMPLES * n)) for n, part in enumerate(parts))


@pytest.fixture
def policy() -> Policy:
    return build(tiny())


def test_auto_asks_the_machine(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert may_be_invariant(policy, packed=False)
    assert build_engine(policy, tiny(), print, "auto").invariant
    assert not build_engine(policy, tiny(), print).invariant
    monkeypatch.setattr(aligned, "multiply", lambda x, weight: x @ weight.T + (len(x) == 12))
    assert not build_engine(policy, tiny(), print, "auto").invariant
    with pytest.raises(UserError, match="cannot be independent"):
        build_engine(policy, tiny(), print, True)


@pytest.mark.parametrize("asked", ["auto", True])
def test_a_cpu_that_cannot_pack_bfloat16_is_not_tried(monkeypatch: pytest.MonkeyPatch, asked: Any) -> None:
    """One without AVX-512: oneDNN's layout of bfloat16 raises RuntimeError there."""
    monkeypatch.setattr(kernels, "_packing_works", lambda dtype: False)
    monkeypatch.setattr(kernels, "_pack", lambda weight: pytest.fail("it was packed"))
    policy = build(tiny())
    as_loaded(policy, torch.bfloat16)
    if asked == "auto":
        assert not build_engine(policy, tiny(), print, asked).invariant
    else:
        with pytest.raises(UserError, match="cannot be independent"):
            build_engine(policy, tiny(), print, asked)


def test_another_engine_is_not_invariant() -> None:
    other = build(tiny("gpt2"))
    assert not build_engine(other, tiny("gpt2"), lambda note: None, "auto").invariant
    assert not TransformersEngine.invariant
    with pytest.raises(UserError, match="native engine"):
        build_engine(other, tiny("gpt2"), lambda note: None, True)


@pytest.mark.parametrize("name", ["Llama", "Qwen3"])
def test_in_bfloat16_the_trainer_reads_the_bits_that_were_sampled(name: str) -> None:
    """So that the rollout's own log-probabilities and its forward pass are those of the update."""
    engine = engine_of(name, torch.bfloat16)
    batch = batch_of(engine.policy, TEXTS, SAMPLES)
    rollout = engine.sample(batch, Sampling(20, 1.0), lambda: None, remember=0)
    rows = torch.arange(len(rollout.batch))
    sampled = rollout.hidden[rollout.completion_mask]
    assert torch.equal(engine.hidden(rollout, rows), sampled)
    assert torch.equal(engine.reuse(rollout, rows), sampled)
    assert measure_gap(rollout, engine, rows) < 1e-4
    folded = NativeEngine(engine.policy).sample(batch, Sampling(20, 1.0), lambda: None)
    assert measure_gap(folded, NativeEngine(engine.policy), rows) > 1e-3, "what it would be with the adapter folded in"


@pytest.mark.parametrize("name", ["Llama", "Qwen3"])
@torch.no_grad()
def test_an_untouched_policy_samples_the_bits_that_the_reference_reads(name: str) -> None:
    """So that its KL is 0 and not rounding, of which Adam would make a step of full size where all scores are equal."""
    policy = replace(family(name, scale=3.0), end_tokens=(*range(0, 257, 20),))
    engine, rows = NativeEngine(policy, invariant=True), torch.arange(len(TEXTS) * SAMPLES)
    rollout = engine.sample(batch_of(policy, TEXTS, SAMPLES), Sampling(20, 1.0), lambda: None)
    assert torch.equal(engine.hidden(rollout, rows, reference=True), rollout.hidden[rollout.completion_mask])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_single_row_has_its_bits_in_products_of_wide_layers(dtype: torch.dtype) -> None:
    """With AVX-512 a float32 product of one row of more than a thousand numbers adds in another order."""
    layer = Frozen(torch.randn(64, 1536).to(dtype), invariant=True)
    x, gradient = torch.randn(5, 1536).to(dtype), torch.randn(5, 64).to(dtype)
    assert torch.equal(layer(x[:1]), layer(x)[:1])
    assert torch.equal(layer.backward(gradient[:1]), layer.backward(gradient)[:1])
    wide = x[:1].clone().requires_grad_()
    assert torch.equal(layer(wide), layer(x)[:1])
    layer(wide).backward(gradient[:1])
    assert torch.equal(wide.grad, layer.backward(gradient)[:1])


def test_values_are_calculated_row_by_row() -> None:
    policy = build(tiny(), value_head=True, shared_trunk=True)
    move_adapter(policy)
    engine, states = NativeEngine(policy, invariant=True), torch.randn(40, policy.causal.config.hidden_size)
    whole = engine.values(states)
    for rows in (1, 2, 3, 7, 16, 33):
        assert torch.equal(engine.values(states[:rows]), whole[:rows])
    assert_close(whole, NativeEngine(policy).values(states))
