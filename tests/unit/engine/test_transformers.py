"""The engine against the library's own forward pass and generation, on rotary (llama) and absolute (gpt2) positions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.functional.logprobs import log_softmax, token_logprobs
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.functional.truncation import NO_TRUNCATION, Truncation, sampling_mask, select_rows, unpack
from rlhf_cli.models.policy import Policy
from rlhf_cli.types import PromptBatch, Rollout
from tests.unit.engine.families import family
from tests.unit.support import batch_of, build, logits_of, lora, tiny

TEXTS = ("Hello there", "a", "What is rain? ", "xyz")
"""Four prompts of four lengths."""


def nothing() -> None:
    """A tick that nobody counts."""


def sampled(
    policy: Policy,
    texts: Sequence[str] = TEXTS,
    *,
    samples: int = 2,
    new_tokens: int = 9,
    temperature: float = 1.3,
    ends: Sequence[int] | None = None,
    truncation: Truncation = NO_TRUNCATION,
) -> Rollout:
    batch = batch_of(policy, texts, samples)
    return engine_of(policy, ends).sample(batch, Sampling(new_tokens, temperature, truncation), nothing)


def engine_of(policy: Policy, ends: Sequence[int] | None = None) -> TransformersEngine:
    """The policy's engine, with other end tokens, so that completions of a random model end early, or never."""
    engine = TransformersEngine(policy)
    engine.policy = policy if ends is None else dataclasses.replace(policy, end_tokens=tuple(ends))
    return engine


OFTEN = tuple(range(0, 257, 5))
"""A fifth of the vocabulary ends a completion."""
NEVER = (999,)
"""Not in the vocabulary."""


def row_tokens(rollout: Rollout, row: int) -> list[int]:
    tokens: list[int] = rollout.tokens[row][rollout.completion_mask[row]].tolist()
    return tokens


def plain_logprobs(policy: Policy, rollout: Rollout, row: int) -> Tensor:
    """The log-probabilities of a row's completion by one unpadded forward pass of the library."""
    prompt, completion = list(rollout.batch.prompt_of(row).tokens), row_tokens(rollout, row)
    logits = logits_of(policy, prompt + completion)[len(prompt) - 1 : -1] / (rollout.temperature or 1.0)
    return torch.log_softmax(logits, -1)[torch.arange(len(completion)), completion]


class TestSample:
    """Rollouts."""

    @pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0, 1.3])
    def test_the_logprobs_are_those_of_a_plain_forward_pass(self, moved: Policy, temperature: float) -> None:
        rollout = sampled(moved, temperature=temperature, ends=OFTEN)
        for row in range(len(rollout.batch)):
            found = rollout.logprobs[row][rollout.completion_mask[row]]
            assert_close(found, plain_logprobs(moved, rollout, row), rtol=0, atol=1e-4)

    def test_they_are_the_policys_not_the_references(self, moved: Policy) -> None:
        rollout = sampled(moved)
        with moved.reference():
            reference = plain_logprobs(moved, rollout, 0)
        assert float((rollout.logprobs[0] - reference).abs().max()) > 0.05

    def test_a_left_padded_batch_writes_what_each_prompt_alone_does(self, moved: Policy) -> None:
        engine, batch = engine_of(moved, OFTEN), batch_of(moved, TEXTS, samples=2)
        together = engine.sample(batch, Sampling(9, 1.3), nothing)
        for p in range(len(TEXTS)):
            alone = engine.sample(
                PromptBatch(batch.prompts[p : p + 1], 2, batch.seeds[2 * p : 2 * p + 2]), Sampling(9, 1.3), nothing
            )
            for sample in range(2):
                row = 2 * p + sample
                assert row_tokens(together, row) == row_tokens(alone, sample)
                found, expected = (r.logprobs[i][r.completion_mask[i]] for r, i in ((together, row), (alone, sample)))
                assert_close(found, expected, rtol=0, atol=1e-5)
                assert bool(together.truncated[row]) == bool(alone.truncated[sample])
                assert together.texts[row] == alone.texts[sample]

    def test_a_samples_tokens_follow_from_its_prompt_and_its_seed(self, moved: Policy) -> None:
        engine, batch = TransformersEngine(moved), batch_of(moved, TEXTS, samples=3)
        whole = engine.sample(batch, Sampling(8, 1.0), nothing)
        # The same twelve streams, in another order of prompts, one sample each.
        for sample in range(3):
            order = (2, 0, 3, 1)
            seeds = tuple(batch.seeds[3 * p + sample] for p in order)
            other = engine.sample(
                PromptBatch(tuple(batch.prompts[p] for p in order), 1, seeds), Sampling(8, 1.0), nothing
            )
            assert [row_tokens(other, i) for i in range(4)] == [row_tokens(whole, 3 * p + sample) for p in order]

    def test_equal_seeds_write_equal_texts_and_other_seeds_others(self, moved: Policy) -> None:
        engine, prompt = TransformersEngine(moved), batch_of(moved, ["Hello"]).prompts
        rollout = engine.sample(PromptBatch(prompt, 3, (5, 5, 6)), Sampling(12, 1.0), nothing)
        assert row_tokens(rollout, 0) == row_tokens(rollout, 1) != row_tokens(rollout, 2)

    def test_the_end_token_counts_and_nothing_after_it_does(self, moved: Policy) -> None:
        rollout = sampled(moved, ends=OFTEN, new_tokens=12)
        ended = 0
        for row, length in enumerate(rollout.lengths.tolist()):
            tokens, mask = rollout.tokens[row], rollout.completion_mask[row]
            assert mask.tolist() == [True] * length + [False] * (len(mask) - length)
            assert not any(token in OFTEN for token in tokens[: length - 1].tolist())
            assert bool(rollout.truncated[row]) == (int(tokens[length - 1]) not in OFTEN)
            assert bool(rollout.truncated[row]) <= (length == 12)
            assert tokens[length:].tolist() == [moved.pad_token] * (len(mask) - length)
            assert not rollout.logprobs[row][length:].any()
            assert not rollout.hidden[row][length:].any()
            ended += not rollout.truncated[row]
        assert ended >= 4
        assert rollout.completion_mask.shape[1] == int(rollout.lengths.max())

    def test_a_completion_that_ends_with_its_last_token_is_not_truncated(self, moved: Policy) -> None:
        free = sampled(moved, new_tokens=6, ends=NEVER)
        last = int(free.tokens[0, 5])
        first = row_tokens(free, 0).index(last) + 1  # where this token ends the completion for the first time
        rollout = sampled(moved, new_tokens=first, ends=(last,))
        assert row_tokens(rollout, 0) == row_tokens(free, 0)[:first]
        assert not bool(rollout.truncated[0])

    def test_without_end_tokens_everything_is_truncated(self, moved: Policy) -> None:
        rollout = sampled(moved, ends=NEVER, new_tokens=5)
        assert rollout.truncated.all()
        assert rollout.lengths.tolist() == [5] * 8

    def test_when_every_completion_ends_at_once_the_rollout_is_one_token_long(self, moved: Policy) -> None:
        rollout = sampled(moved, ends=tuple(range(257)))
        assert rollout.tokens.shape == (8, 1)
        assert not rollout.truncated.any()

    def test_rows_that_end_leave_the_others_alone(self, moved: Policy) -> None:
        free, cut = sampled(moved, ends=NEVER, new_tokens=10), sampled(moved, ends=OFTEN, new_tokens=10)
        assert cut.lengths.min() < cut.lengths.max()
        for row, length in enumerate(cut.lengths.tolist()):
            assert row_tokens(cut, row) == row_tokens(free, row)[:length]
            assert_close(cut.logprobs[row, :length], free.logprobs[row, :length], rtol=0, atol=1e-5)

    def test_the_texts_are_the_decoded_tokens(self, moved: Policy) -> None:
        rollout = sampled(moved)
        assert rollout.texts == tuple(moved.decode(row_tokens(rollout, row)) for row in range(8))

    def test_tick_is_called_once_a_token(self, moved: Policy) -> None:
        ticks: list[None] = []
        engine_of(moved, NEVER).sample(batch_of(moved, TEXTS), Sampling(7, 1.0), lambda: ticks.append(None))
        assert len(ticks) == 7
        ticks.clear()
        rollout = engine_of(moved, OFTEN).sample(batch_of(moved, TEXTS), Sampling(60, 1.0), lambda: ticks.append(None))
        assert len(ticks) == int(rollout.lengths.max())

    def test_a_stop_in_a_tick_leaves_the_policy_usable(self, moved: Policy) -> None:
        engine, batch = TransformersEngine(moved), batch_of(moved, TEXTS)

        def stop() -> None:
            raise KeyboardInterrupt

        before = engine.sample(batch, Sampling(5, 1.0), nothing)
        with pytest.raises(KeyboardInterrupt):
            engine.sample(batch, Sampling(5, 1.0), stop)
        assert torch.equal(engine.sample(batch, Sampling(5, 1.0), nothing).tokens, before.tokens)

    def test_no_graph_is_kept(self, moved: Policy) -> None:
        rollout = sampled(moved)
        assert not rollout.logprobs.requires_grad
        assert not rollout.hidden.requires_grad

    def test_greedy_is_the_librarys_own_greedy_generation(self, moved: Policy) -> None:
        engine = engine_of(moved, OFTEN)
        for text in TEXTS:
            batch = batch_of(moved, [text])
            prompt = torch.tensor([batch.prompts[0].tokens])
            ours = engine.sample(batch, Sampling(12, 0.0), nothing)
            theirs = moved.causal.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=False,
                max_new_tokens=12,
                eos_token_id=list(OFTEN),
                pad_token_id=moved.pad_token,
            )
            assert row_tokens(ours, 0) == theirs[0, prompt.shape[1] :].tolist()

    def test_a_prompt_and_its_completion_may_fill_the_context(self, moved: Policy) -> None:
        rollout = sampled(moved, ["x" * 55, "y"], samples=1, new_tokens=9, ends=NEVER)
        assert rollout.lengths.tolist() == [9, 9]
        assert_close(rollout.logprobs[0], plain_logprobs(moved, rollout, 0), rtol=0, atol=1e-4)


TRUNCATIONS = [
    Truncation(7, 1.0, 0.0),
    Truncation(None, 0.6, 0.0),
    Truncation(None, 1.0, 0.3),
    Truncation(50, 0.9, 0.05),
]


def stored(rollout: Rollout) -> Tensor:
    """bool [N, V]: the set of each of the rollout's tokens."""
    tokens = int(rollout.completion_mask.sum())
    keep = unpack(rollout.kept, slice(0, tokens), tokens)
    assert keep is not None
    return keep


class TestTruncation:
    """Rollouts of a truncated policy."""

    @pytest.mark.parametrize("truncation", TRUNCATIONS, ids=str)
    def test_every_token_is_in_its_set_and_the_sets_are_those_of_a_plain_forward_pass(
        self, moved: Policy, truncation: Truncation
    ) -> None:
        rollout = sampled(moved, ends=OFTEN, new_tokens=12, truncation=truncation)
        assert len(set(rollout.lengths.tolist())) > 3
        sets, lengths = stored(rollout), rollout.lengths.tolist()
        assert bool(sets.gather(1, rollout.tokens[rollout.completion_mask][:, None]).all())
        for row, (length, keep) in enumerate(zip(lengths, sets.split(lengths), strict=True)):
            prompt, completion = list(rollout.batch.prompt_of(row).tokens), row_tokens(rollout, row)
            logprobs = log_softmax(logits_of(moved, prompt + completion)[len(prompt) - 1 : -1], 1.3)
            assert torch.equal(keep, sampling_mask(logprobs, truncation.top_k, truncation.top_p, truncation.min_p))
            expected = log_softmax(logprobs, 1.0, keep)[torch.arange(length), completion]
            assert_close(rollout.logprobs[row, :length], expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("truncation", TRUNCATIONS, ids=str)
    def test_the_trainers_pass_agrees_with_the_sampler(self, moved: Policy, truncation: Truncation) -> None:
        rollout = sampled(moved, ends=OFTEN, new_tokens=12, truncation=truncation)
        engine, mask = TransformersEngine(moved), rollout.completion_mask
        for rows in (torch.arange(8), torch.arange(3), torch.tensor([7, 3, 5])):
            hidden, tokens = engine.hidden(rollout, rows), rollout.tokens[rows][mask[rows]]
            sets = select_rows(rollout.kept, mask, rows)
            found = token_logprobs(hidden, tokens, engine.head, rollout.temperature, sets, chunk=5)
            assert_close(found, rollout.logprobs[rows][mask[rows]], rtol=0, atol=1e-5)
            whole = token_logprobs(hidden, tokens, engine.head, rollout.temperature).detach()
            assert float((found.detach() - whole).min()) > -1e-5  # renormalising makes a kept token more probable
            assert float((found.detach() - whole).max()) > 0.1

    def test_one_token_left_is_greedy_decoding(self, moved: Policy) -> None:
        greedy = sampled(moved, ends=OFTEN, temperature=0.0)
        for truncation in (Truncation(1, 1.0, 0.0), Truncation(None, 1e-6, 0.0), Truncation(None, 1.0, 1.0)):
            rollout = sampled(moved, ends=OFTEN, truncation=truncation)
            assert torch.equal(rollout.tokens, greedy.tokens)
            assert torch.equal(rollout.completion_mask, greedy.completion_mask)
            assert not rollout.logprobs.any()
            assert bool((stored(rollout).sum(1) == 1).all())

    def test_sets_of_the_whole_vocabulary_change_nothing(self, moved: Policy) -> None:
        plain, rollout = (sampled(moved, ends=OFTEN, truncation=t) for t in (NO_TRUNCATION, Truncation(999, 1.0, 0.0)))
        assert plain.kept is None
        assert bool(stored(rollout).all())
        for name in ("tokens", "completion_mask", "logprobs", "hidden", "truncated"):
            assert torch.equal(getattr(rollout, name), getattr(plain, name))

    def test_greedy_decoding_has_nothing_to_truncate(self, moved: Policy) -> None:
        plain, rollout = (
            sampled(moved, temperature=0.0, truncation=t) for t in (NO_TRUNCATION, Truncation(3, 0.5, 0.1))
        )
        assert rollout.kept is None
        assert torch.equal(rollout.tokens, plain.tokens)
        assert torch.equal(rollout.logprobs, plain.logprobs)

    def test_a_rows_sets_do_not_depend_on_the_batch(self, moved: Policy) -> None:
        truncation, engine, batch = Truncation(40, 0.8, 0.0), engine_of(moved, OFTEN), batch_of(moved, TEXTS, samples=2)
        together = engine.sample(batch, Sampling(9, 1.3, truncation), nothing)
        for p in range(4):
            seeds = batch.seeds[2 * p : 2 * p + 2]
            alone = engine.sample(
                PromptBatch(batch.prompts[p : p + 1], 2, seeds), Sampling(9, 1.3, truncation), nothing
            )
            rows = select_rows(together.kept, together.completion_mask, torch.arange(2 * p, 2 * p + 2))
            assert rows is not None
            assert alone.kept is not None
            assert torch.equal(rows.ids, alone.kept.ids)
            assert torch.equal(rows.offsets, alone.kept.offsets)


class TestHidden:
    """What scoring and updating read."""

    def test_a_batch_is_its_rows_one_by_one(self, moved: Policy) -> None:
        rollout, engine = sampled(moved, ends=OFTEN), TransformersEngine(moved)
        whole = engine.hidden(rollout, torch.arange(0, 8))
        rows = [engine.hidden(rollout, torch.arange(row, row + 1)) for row in range(8)]
        assert [len(row) for row in rows] == rollout.lengths.tolist()
        assert_close(whole, torch.cat(rows), rtol=0, atol=1e-5)

    def test_the_policys_are_those_it_sampled_with(self, moved: Policy) -> None:
        rollout = sampled(moved, ends=OFTEN)
        found = TransformersEngine(moved).hidden(rollout, torch.arange(0, 8))
        assert_close(found, rollout.hidden[rollout.completion_mask], rtol=0, atol=1e-5)
        assert found.requires_grad

    def test_head_and_hidden_make_the_models_logits(self, moved: Policy) -> None:
        rollout, engine = sampled(moved), TransformersEngine(moved)
        prompt = list(rollout.batch.prompt_of(3).tokens)
        logits = engine.head(engine.hidden(rollout, torch.arange(3, 4)))
        assert_close(logits, logits_of(moved, prompt + row_tokens(rollout, 3))[len(prompt) - 1 : -1], rtol=0, atol=1e-5)

    def test_the_references_are_those_of_the_base_model(self, moved: Policy) -> None:
        rollout, engine = sampled(moved, ends=OFTEN), TransformersEngine(moved)
        logits = engine.head(engine.hidden(rollout, torch.arange(0, 8), reference=True)).split(rollout.lengths.tolist())
        base = build(tiny(moved.causal.config.model_type))
        for row in range(8):
            prompt = list(rollout.batch.prompt_of(row).tokens)
            expected = logits_of(base, prompt + row_tokens(rollout, row))[len(prompt) - 1 : -1]
            assert_close(logits[row], expected, rtol=0, atol=1e-5)

    def test_the_adapter_is_on_again_after_the_reference(self, moved: Policy) -> None:
        rollout, engine = sampled(moved), TransformersEngine(moved)
        before = engine.hidden(rollout, torch.arange(0, 2))
        engine.hidden(rollout, torch.arange(0, 2), reference=True)
        assert torch.equal(engine.hidden(rollout, torch.arange(0, 2)), before)


HYBRID: Final = {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_chunk_size": 8}
"""Fields of models with a state of Mamba's kind."""


class TestHead:
    """The head must make the model's own logits."""

    @pytest.mark.parametrize(
        ("name", "fields"),
        [
            ("Qwen2", {}),
            ("Mistral", {"sliding_window": 8}),
            ("Granite", {"logits_scaling": 8.0}),
            ("Cohere", {"logit_scale": 0.0625}),
            ("FalconH1", HYBRID | {"lm_head_multiplier": 0.5, "mamba_d_ssm": 32}),
            ("Lfm2", {"layer_types": ["conv", "full_attention"]}),
            ("GraniteMoeHybrid", HYBRID | {"logits_scaling": 6.0, "layer_types": ["mamba", "attention"]}),
        ],
    )
    def test_other_families_are_taken(self, name: str, fields: dict[str, Any]) -> None:
        policy = family(name, scale=8.0, adapter=lora(target_modules="auto"), **fields)
        rollout = sampled(policy, samples=3, new_tokens=12, ends=OFTEN)
        assert len(set(rollout.lengths.tolist())) > 2  # so that texts have left the cache
        for row in range(12):
            assert_close(
                rollout.logprobs[row][rollout.completion_mask[row]],
                plain_logprobs(policy, rollout, row),
                rtol=0,
                atol=1e-4,
            )

    def test_softcapped_logits_are_taken_and_capped(self) -> None:
        policy = family(
            "Gemma2", head_dim=4, final_logit_softcapping=2.0, attn_logit_softcapping=None, sliding_window=8
        )
        engine = TransformersEngine(policy)
        rollout = engine.sample(batch_of(policy, TEXTS), Sampling(10, 1.0), nothing)
        logits = engine.head(engine.hidden(rollout, torch.arange(0, 4)))
        assert 1.0 < float(logits.detach().abs().max()) <= 2.0
        for row in range(4):
            assert_close(
                rollout.logprobs[row][rollout.completion_mask[row]],
                plain_logprobs(policy, rollout, row),
                rtol=0,
                atol=1e-4,
            )


@pytest.mark.parametrize("samples", [1, 3])
def test_the_library_of_policies_is_left_as_it_was(moved: Policy, samples: int) -> None:
    before = {name: parameter.clone() for name, parameter in moved.parameters().items()}
    sampled(moved, samples=samples)
    assert all(torch.equal(parameter, before[name]) for name, parameter in moved.parameters().items())
    assert all(parameter.grad is None for parameter in moved.parameters().values())
