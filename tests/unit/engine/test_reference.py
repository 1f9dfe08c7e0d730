"""A reference that is another model: its tokens, its logits, and the KL that is measured from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlhf_cli.config.jobs import compose_config
from rlhf_cli.engine.reading import measure_distance, recompute_logprobs
from rlhf_cli.engine.reference import TwoModels, first_difference, load_models
from rlhf_cli.errors import UserError
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.settings import Tiny
from rlhf_cli.models.tiny import build_tiny
from rlhf_cli.types import PromptBatch, PromptRow, Rollout
from tests.unit.support import move_adapter

SMALL = "config=tiny", "model.layers=1", "device=cpu"


def nothing() -> None:
    pass


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Save a tiny model of another width and other weights than the policy's, with `extra` outputs for no token."""

    def save(extra: int = 0) -> Path:
        settings = compose_config(["config=tiny", "model.layers=2", "model.width=40", "model.seed=5"]).model
        assert isinstance(settings, Tiny)
        model, tokenizer = build_tiny(settings)
        with torch.no_grad():  # further from the policy than two random models are
            model.get_output_embeddings().weight.mul_(3.0)
        if extra:
            model.resize_token_embeddings(len(tokenizer) + extra, mean_resizing=False)
            model.generation_config.eos_token_id = 1  # one that is not cut off
        folder = tmp_path_factory.mktemp("reference")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


def logprobs_of(model: torch.nn.Module, rollout: Rollout, row: int) -> Tensor:
    """log softmax [T, V] of the library's own logits at the positions of a completion's tokens."""
    prompt = rollout.batch.prompt_of(row).tokens
    tokens = rollout.tokens[row][rollout.completion_mask[row]]
    ids = torch.cat([torch.tensor(prompt), tokens])[None]
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits.double(), -1)


@pytest.mark.parametrize(("engine", "extra"), [("native", 0), ("transformers", 3)])
@torch.no_grad()
def test_the_kl_is_that_from_the_other_model(engine: str, extra: int, saved: Callable[..., Path]) -> None:
    from transformers import AutoModelForCausalLM

    path, notes = saved(extra), list[str]()
    config = compose_config([*SMALL, f"model.engine={engine}", "reference=model", f"reference.path={path}"])
    policy, models = load_models(config, notes.append)
    assert isinstance(models, TwoModels)
    assert any(f"the reference is {path}" in note for note in notes)
    move_adapter(policy)
    prompts = tuple(policy.encode(PromptRow(text, {}, "test")) for text in ("Say a.", "Say it."))
    rollout = models.sample(PromptBatch(prompts, 2, (1, 2, 3, 4)), Sampling(5, 1.0), nothing)
    distance = measure_distance(rollout, models, 3, nothing, keep_hidden=True)
    assert distance.exact is not None
    assert distance.ref_hidden is not None
    assert distance.ref_hidden.shape[-1] == 40
    other = AutoModelForCausalLM.from_pretrained(path)
    width = policy.causal.get_output_embeddings().weight.shape[0]
    for row in range(len(rollout.batch)):
        mask = rollout.completion_mask[row]
        own, theirs = logprobs_of(policy.causal, rollout, row), logprobs_of(other, rollout, row)
        theirs = torch.log_softmax(theirs[:, :width], -1)  # no output that stands for no token
        taken = theirs.gather(-1, rollout.tokens[row][mask].unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(distance.ref_logprobs[row][mask].double(), taken, atol=1e-4, rtol=1e-4)
        kl = (own.exp() * (own - theirs)).sum(-1)
        assert float(kl.min()) > 1e-2
        torch.testing.assert_close(distance.exact.kl[row][mask].double(), kl, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_reference_writes_what_it_writes_as_a_policy(saved: Callable[..., Path]) -> None:
    """Its completions have its own log-probabilities, and the policy can read them too."""
    path = saved()
    config = compose_config([*SMALL, "reference=model", f"reference.path={path}"])
    policy, models = load_models(config, lambda note: None)
    by_itself = compose_config([SMALL[0], SMALL[2], "model=pretrained", f"model.path={path}"])
    alone, engine = load_models(by_itself, lambda note: None)
    batch = PromptBatch((policy.encode(PromptRow("Say a.", {}, "test")),), 3, (1, 2, 3))
    written = models.sample(batch, Sampling(5, 1.0), nothing, reference=True)
    expected = engine.sample(batch, Sampling(5, 1.0), nothing)
    assert written.texts == expected.texts
    assert alone.context == policy.context
    torch.testing.assert_close(written.logprobs, expected.logprobs)
    again, weights = recompute_logprobs(written, models, 2, nothing, reference=True)
    assert float(weights.abs().max()) < 1e-4
    by_policy, _ = recompute_logprobs(written, models, 2, nothing)
    assert by_policy.hidden.shape[-1] != again.hidden.shape[-1]
    assert not torch.allclose(by_policy.logprobs, again.logprobs, atol=1e-2)


class Words:
    """A tokenizer with these tokens, numbered from 0."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = tokens

    def get_vocab(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self._tokens)}


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (Words("a", "b", "c"), None),
        (Words("a", "c", "b"), "token 1 is 'b' in the policy's tokenizer and 'c' in the reference's"),
        (Words("a", "b"), "token 2 is 'c' in the policy's tokenizer and missing in the reference's"),
        (Words("a", "b", "c", "d"), "token 3 is missing in the policy's tokenizer and 'd' in the reference's"),
    ],
)
def test_the_first_difference_of_two_tokenizers(other: Words, difference: str | None) -> None:
    assert first_difference(Words("a", "b", "c"), other) == difference


def test_a_model_with_too_few_outputs_is_refused(saved: Callable[..., Path]) -> None:
    path = saved(-1)
    config = compose_config([*SMALL, "reference=model", f"reference.path={path}"])
    with pytest.raises(UserError, match=r"output layer has \d+ tokens, and the reference's \d+"):
        load_models(config, lambda note: None)
