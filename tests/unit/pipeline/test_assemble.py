"""Fitting prompts, model and machine together."""

from __future__ import annotations

import pytest
import torch

from rlhf_cli.errors import EXIT_DATA, EXIT_USAGE, UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline import assemble
from rlhf_cli.pipeline.assemble import _device, encode, load_policy
from rlhf_cli.pipeline.record import _weights_fingerprint
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import PromptRow
from tests.unit.support import Recorder, build, config_of, move_adapter, tiny


def rows(*lengths: int) -> list[PromptRow]:
    """Prompts of so many bytes, which are tokens of the tiny model."""
    return [PromptRow("x" * length, {}, f"f:{i}") for i, length in enumerate(lengths, start=1)]


def run_of(limit: int, too_long: str = "error", max_new_tokens: int = 8) -> RunConfig:
    data = {"kind": "jsonl", "path": "f", "eval_path": None, "max_prompt_tokens": limit, "too_long": too_long}
    return config_of(data=data, max_new_tokens=max_new_tokens)


def test_prompts_that_fit_are_kept_in_order(moved: Policy) -> None:
    found = encode(rows(3, 10, 1), moved, run_of(10), Recorder())
    assert [len(prompt.tokens) for prompt in found] == [3, 10, 1]


def test_the_first_prompt_that_is_too_long_is_named(moved: Policy) -> None:
    with pytest.raises(UserError) as caught:
        encode(rows(3, 11, 12), moved, run_of(10), Recorder())
    assert caught.value.exit_code == EXIT_DATA == 3
    assert caught.value.line() == (
        "the prompt has 11 tokens, more than 10 (data.max_prompt_tokens) (f:2); "
        "fix: shorten it, raise the limit, or leave such prompts out: data.too_long=drop"
    )


def test_the_models_context_is_a_limit_too(moved: Policy) -> None:
    assert len(encode(rows(56), moved, run_of(1000), Recorder())) == 1  # 64 - 8
    with pytest.raises(UserError) as caught:
        encode(rows(57), moved, run_of(1000), Recorder())
    assert caught.value.what == "the prompt has 57 tokens, more than 56 (the model's 64 less max_new_tokens)"


def test_dropped_prompts_are_counted(moved: Policy) -> None:
    watch = Recorder()
    found = encode(rows(3, 11, 5, 12), moved, run_of(10, "drop"), watch)
    assert [prompt.row.where for prompt in found] == ["f:1", "f:3"]
    assert watch.notes == ["2 of 4 prompts are longer than 10 tokens and were dropped"]


def test_where_nothing_is_dropped_nothing_is_said(moved: Policy) -> None:
    watch = Recorder()
    encode(rows(3), moved, run_of(10, "drop"), watch)
    assert watch.notes == []


@pytest.mark.parametrize("max_new_tokens", [64, 1000])
def test_completions_that_leave_no_room_are_refused(moved: Policy, max_new_tokens: int) -> None:
    with pytest.raises(UserError) as caught:
        encode(rows(1), moved, run_of(10, max_new_tokens=max_new_tokens), Recorder())
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.what.startswith(f"max_new_tokens={max_new_tokens} leaves no room for a prompt")
    assert "64" in caught.value.what
    assert caught.value.where == "max_new_tokens"


def test_the_adapter_follows_from_the_runs_seed() -> None:
    one, same, other = (load_policy(config_of(seed=seed)).parameters() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("dtype", "expected"), [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_the_frozen_weights_have_the_dtype_and_the_adapter_is_float32(dtype: str, expected: torch.dtype) -> None:
    policy = load_policy(config_of(dtype=dtype))
    assert policy.causal.dtype == expected
    assert {parameter.dtype for parameter in policy.parameters().values()} == {torch.float32}


@pytest.mark.usefixtures("one_thread")
def test_threads_are_set_where_they_are_given() -> None:
    load_policy(config_of(threads=2))
    assert torch.get_num_threads() == 2
    load_policy(config_of(threads=None))  # not what the trial before it had
    assert torch.get_num_threads() == assemble.THREADS


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert _device("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:1"):
        with pytest.raises(UserError) as caught:
            _device(name)
        assert caught.value.line() == f"no {name} on this machine (device); fix: use device=auto or device=cpu"


def test_a_second_gpu_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert _device("auto") == torch.device("cuda")
    assert _device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(UserError, match=r"^no cuda:1 on this machine"):
        _device("cuda:1")


def test_the_fingerprint_is_that_of_the_frozen_weights() -> None:
    one, moved, other = build(tiny()), build(tiny(), adapter_seed=2), build(tiny(seed=1))
    move_adapter(moved)
    assert _weights_fingerprint(one) == _weights_fingerprint(moved) != _weights_fingerprint(other)
    with torch.no_grad():
        one.causal.get_input_embeddings().weight[0, 0] += 1
    assert _weights_fingerprint(one) != _weights_fingerprint(moved)
