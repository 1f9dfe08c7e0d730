"""The tabular engine: what it writes, lists and reads is what its table says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlhf_cli.engine.tabular import TabularEngine
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.functional.truncation import Truncation
from rlhf_cli.types import PromptBatch

PROMPTS, STATES, TOKENS = 2, 4, 3  # two steps of three tokens


def table(seed: int = 0) -> Tensor:
    return torch.randn(PROMPTS, STATES, TOKENS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def moved(end: int | None = None) -> TabularEngine:
    """A policy away from its reference."""
    engine = TabularEngine(table(), end)
    engine.logits.data = table(1)
    return engine


def batch(engine: TabularEngine, samples: int) -> PromptBatch:
    return PromptBatch(engine.prompts, samples, tuple(range(PROMPTS * samples)))


def test_all_completions_are_listed_with_their_probability() -> None:
    everything = moved().all_completions()
    assert len(everything.batch) == PROMPTS * 9
    assert everything.texts[:4] == ("0 0", "0 1", "0 2", "1 0")
    whole = everything.logprobs.sum(1).view(PROMPTS, -1)
    assert_close(whole.exp().sum(1), torch.ones(PROMPTS, dtype=torch.float64))
    by_hand = torch.log_softmax(table(1), -1)
    assert_close(whole[1, 5], by_hand[1, 0, 1] + by_hand[1, 2, 2])  # prompt 1, text "1 2": states 0 and 1 + 1


def test_a_text_ends_with_the_end_token() -> None:
    everything = moved(end=2).all_completions(temperature=0.7)
    assert everything.texts[:7] == ("0 0", "0 1", "0 2", "1 0", "1 1", "1 2", "2")
    assert everything.lengths[:7].tolist() == [2, 2, 2, 2, 2, 2, 1]
    assert_close(everything.logprobs.sum(1).view(PROMPTS, -1).exp().sum(1), torch.ones(PROMPTS, dtype=torch.float64))


@pytest.mark.parametrize("end", [None, 2])
@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_sampled_frequencies_are_the_probabilities(end: int | None, temperature: float) -> None:
    engine, samples = moved(end), 4000
    written = engine.sample(batch(engine, samples), Sampling(9, temperature), lambda: None)
    everything = engine.all_completions(temperature)
    expected = everything.logprobs.sum(1).exp().view(PROMPTS, -1)
    for prompt in range(PROMPTS):
        texts = written.texts[prompt * samples : (prompt + 1) * samples]
        names = everything.texts[prompt * expected.shape[1] : (prompt + 1) * expected.shape[1]]
        counts = torch.tensor([float(texts.count(name)) for name in names], dtype=torch.float64)
        chi_square = ((counts - samples * expected[prompt]).square() / (samples * expected[prompt])).sum()
        assert float(chi_square) < 26.1  # 99.9 % of chi-square with 8 degrees of freedom, more than there are
    assert not written.truncated.any()


def test_reading_agrees_with_sampling() -> None:
    engine = moved(end=2)
    written = engine.sample(batch(engine, 30), Sampling(9, 0.8), lambda: None)
    assert_close(engine.sequence_logprobs(written).detach(), written.logprobs.sum(1))
    keep = written.completion_mask
    assert_close(engine.hidden(written, torch.arange(60)).detach(), written.hidden[keep])
    some = torch.tensor([7, 3, 50])
    assert_close(engine.hidden(written, some).detach(), written.hidden[some][keep[some]])
    assert not written.logprobs[~keep].any()


def test_the_reference_is_the_initial_policy() -> None:
    engine = moved()
    everything = engine.all_completions()
    untouched = TabularEngine(table()).all_completions().logprobs.sum(1)
    assert_close(engine.sequence_logprobs(everything, reference=True), untouched)
    assert float((everything.logprobs.sum(1) - untouched).abs().max()) > 0.1


def test_states_are_numbered_as_in_a_heap() -> None:
    engine = moved(end=2)
    assert engine.final_states(engine.all_completions())[:7].tolist() == [4, 5, 6, 7, 8, 9, 3]


@pytest.mark.parametrize(("limit", "cut"), [(1, True), (2, False), (3, False)])
def test_a_text_that_is_cut_is_truncated_and_one_that_is_whole_is_not(limit: int, cut: bool) -> None:
    engine = moved()
    assert (engine.sample(batch(engine, 5), Sampling(limit, 1.0), lambda: None).truncated == cut).all()


def test_greedy_takes_the_most_probable_token() -> None:
    engine = moved()
    written = engine.sample(batch(engine, 1), Sampling(2, 0.0), lambda: None)
    assert written.tokens[:, 0].tolist() == table(1)[:, 0].argmax(-1).tolist()


def test_values_are_those_of_the_states_and_can_be_learned() -> None:
    engine = moved()
    engine.state_values.data = torch.arange(8.0, dtype=torch.float64).view(PROMPTS, STATES)
    everything = engine.all_completions()
    values = engine.values(engine.hidden(everything, torch.tensor([9 + 5])))  # prompt 1, text "1 2"
    assert values.tolist() == [4.0, 6.0]
    values.sum().backward()
    assert engine.state_values.grad.tolist() == [[0, 0, 0, 0], [1, 0, 1, 0]]


def test_a_table_is_not_truncated() -> None:
    engine = moved()
    with pytest.raises(ValueError, match="all its tokens"):
        engine.sample(batch(engine, 1), Sampling(2, 1.0, Truncation(1, 1.0, 0.0)), lambda: None)
