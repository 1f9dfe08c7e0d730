"""Prompts in the policy's tokens: those that fit, and of the training prompts those that a run uses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rlhf_cli.data.jsonl import Jsonl
from rlhf_cli.data.order import PartSize, prompts_of_step
from rlhf_cli.errors import EXIT_DATA, EXIT_USAGE, UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.prompts import encoding as prompts
from rlhf_cli.prompts.encoding import Fit, Prompts, encode, encode_held_out
from rlhf_cli.prompts.rows import Rows
from rlhf_cli.types import Message, Prompt, PromptRow
from tests.unit.support import Recorder, config_of, data_fields, rows_of


def rows(*lengths: int) -> list[PromptRow]:
    """Prompts of so many bytes, which are tokens of the tiny model."""
    return [PromptRow("x" * length, {}, f"f:{i}") for i, length in enumerate(lengths, start=1)]


def fitted(
    policy: Policy, found: list[PromptRow], limit: int, too_long: str = "error", max_new: int = 8
) -> list[Prompt]:
    data = Jsonl.model_validate(data_fields(max_prompt_tokens=limit, too_long=too_long))
    fitting = Fit.of(data, policy.encoder, policy.context, max_new).encode(found)
    return [prompt for prompt in fitting if prompt is not None]


def encoded(
    policy: Policy, train: list[PromptRow], held_out: list[PromptRow], watch: Recorder, steps: int = 4, **data: Any
) -> tuple[Prompts, tuple[Prompt, ...]]:
    config = config_of(data=data_fields(**data), steps=steps)
    return encode(rows_of(train, held_out, **data), policy.encoder, policy.context, config, watch)


def test_prompts_that_fit_are_kept_in_order(moved: Policy) -> None:
    assert [len(prompt.tokens) for prompt in fitted(moved, rows(3, 10, 1), 10)] == [3, 10, 1]


def test_the_first_prompt_that_is_too_long_is_named(moved: Policy) -> None:
    with pytest.raises(UserError) as caught:
        fitted(moved, rows(3, 11, 12), 10)
    assert caught.value.exit_code == EXIT_DATA == 3
    assert caught.value.line() == (
        "the prompt has 11 tokens, more than 10 (data.max_prompt_tokens) (f:2); "
        "fix: shorten it, raise the limit, or leave such prompts out: data.too_long=drop"
    )


def test_a_system_prompt_without_a_template_is_the_settings_fault(moved: Policy) -> None:
    fit = Fit.of(Jsonl.model_validate(data_fields(system="Be kind.")), moved.encoder, moved.context, 8)
    with pytest.raises(UserError) as caught:
        fit.encode([PromptRow((Message("system", "Be kind."), Message("user", "Hi")), {}, "f:1")])
    assert caught.value.exit_code == EXIT_USAGE == 2
    assert caught.value.line() == (
        "a system prompt makes chats, and the prompts are raw text for this model (data.system='Be kind.'); "
        "fix: leave it out (data.system=null), or give a model with a chat template (model.prompt_format=chat)"
    )


def test_the_models_context_is_a_limit_too(moved: Policy) -> None:
    assert len(fitted(moved, rows(56), 1000)) == 1  # 64 - 8
    with pytest.raises(UserError) as caught:
        fitted(moved, rows(57), 1000)
    assert caught.value.what == "the prompt has 57 tokens, more than 56 (the model's 64 less max_new_tokens)"


def test_too_long_prompts_may_keep_their_end(moved: Policy) -> None:
    (prompt,) = fitted(moved, [PromptRow("abcdefgh", {}, "f:1")], 3, "truncate_left")
    assert prompt.text == "fgh"
    assert prompt.tokens == moved.encode(PromptRow("fgh", {}, "")).tokens


def test_how_many_lost_their_beginning_is_said(moved: Policy) -> None:
    watch = Recorder()
    encoded(moved, rows(3, 9, 3, 9), rows(8, 2), watch, max_prompt_tokens=4, too_long="truncate_left")
    assert watch.notes == ["3 of 6 prompts lose their beginning: their last 4 tokens are used"]


def test_a_limit_that_is_just_the_room_is_the_models(moved: Policy) -> None:
    with pytest.raises(UserError) as caught:
        fitted(moved, rows(57), 56)
    assert caught.value.what == "the prompt has 57 tokens, more than 56 (the model's 64 less max_new_tokens)"


def test_room_for_a_single_token_is_enough(moved: Policy) -> None:
    assert len(fitted(moved, rows(1), 10, max_new=63)) == 1


@pytest.mark.parametrize("max_new_tokens", [64, 1000])
def test_completions_that_leave_no_room_are_refused(moved: Policy, max_new_tokens: int) -> None:
    with pytest.raises(UserError) as caught:
        fitted(moved, rows(1), 10, max_new=max_new_tokens)
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.what.startswith(f"max_new_tokens={max_new_tokens} leaves no room for a prompt")
    assert "64" in caught.value.what
    assert caught.value.where == "max_new_tokens"


def test_batches_make_no_difference(moved: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Recorder()
    whole, held_out = encoded(moved, rows(*range(1, 10)), rows(*range(1, 6)), watch, max_prompt_tokens=20)
    assert watch.phases == []
    monkeypatch.setattr(prompts, "BATCH", 4)
    again = encoded(moved, rows(*range(1, 10)), rows(*range(1, 6)), watch, max_prompt_tokens=20)
    assert again == (whole, held_out)
    assert watch.phases == ["encoding the prompts"] * 2


def test_dropped_prompts_are_counted_and_are_no_part_of_the_order(moved: Policy) -> None:
    watch = Recorder()
    limits = {"max_prompt_tokens": 10, "too_long": "drop"}
    found, held_out = encoded(moved, rows(3, 11, 5, 12), rows(1, 2, 13), watch, **limits)
    assert watch.notes == ["data: 7 rows; 3 longer than 10 tokens left out; 2 to train on, 2 held out"]
    assert found.parts == (PartSize("", 1.0, 2),)
    assert {prompt.row.where for prompt in found.of_step(0, 2, 0)} == {"f:1", "f:3"}
    assert [prompt.row.where for prompt in held_out] == ["f:1", "f:2"]


def test_where_nothing_is_dropped_nothing_is_said(moved: Policy) -> None:
    watch = Recorder()
    encoded(moved, rows(3, 4), rows(1, 2), watch, too_long="drop")
    assert (watch.notes, watch.phases) == ([], [])


def test_only_what_the_run_uses_is_encoded_in_the_order_of_its_use(moved: Policy) -> None:
    # four steps of two prompts use eight of twenty; the others may be too long for all it matters
    parts = (PartSize("", 1.0, 20),)
    used = [row for step in range(4) for _, row in prompts_of_step(step, parts, 2, 0)]
    train = rows(*(10 if row in used else 60 for row in range(20)))
    found, _ = encoded(moved, train, rows(1, 2), Recorder())
    assert [row for _, row in found.encoded] == used
    assert found.first(3) == tuple(found.encoded.values())[:3]
    for step in range(4):
        assert [prompt.row for prompt in found.of_step(step, 2, 0)] == [
            train[row] for row in used[2 * step : 2 * step + 2]
        ]
    with pytest.raises(UserError, match="the prompt has 60 tokens"):
        encoded(moved, train, rows(1, 2), Recorder(), steps=5)


@pytest.mark.parametrize("prompts", ["headroom", "dynamic"])
def test_where_any_prompt_may_be_drawn_all_are_encoded_in_their_order(prompts: str, moved: Policy) -> None:
    given, config = rows_of(rows(*range(1, 21)), rows(1, 2)), config_of(prompts=prompts)
    found, _ = encode(given, moved.encoder, moved.context, config, Recorder())
    assert [*found.encoded] == [(0, row) for row in range(20)]
    assert [prompt.row.where for prompt in found.numbered([3, 0, 3])] == ["f:4", "f:1", "f:4"]


def test_more_steps_begin_with_the_same_prompts(moved: Policy) -> None:
    few, _ = encoded(moved, rows(*range(1, 21)), rows(1, 2), Recorder(), steps=2)
    more, _ = encoded(moved, rows(*range(1, 21)), rows(1, 2), Recorder(), steps=40)
    assert more.first(4) == few.first(4)
    assert len(more.encoded) == 20


def test_one_held_out_prompt_is_too_few(moved: Policy) -> None:
    limits = {"too_long": "drop", "max_prompt_tokens": 10}
    with pytest.raises(UserError, match=r"^1 held-out prompt left, and an evaluation needs two") as caught:
        encoded(moved, rows(1, 1), rows(1, 20), Recorder(), eval_path="e.jsonl", **limits)
    assert caught.value.where == "e.jsonl"
    assert caught.value.fix == "raise data.max_prompt_tokens, or switch evaluation off (evaluate.every=0)"


@pytest.mark.parametrize(
    ("too_long", "kept", "note"),
    [
        ("drop", [3, 2], "data: 5 rows; 1 longer than 10 tokens left out; 2 to train on, 2 held out"),
        ("truncate_left", [3, 10, 2], "1 of 3 prompts lose their beginning: their last 10 tokens are used"),
    ],
)
def test_the_held_out_prompts_alone(too_long: str, kept: list[int], note: str, moved: Policy) -> None:
    given, watch = rows_of(rows(4, 60), rows(3, 20, 2), max_prompt_tokens=10, too_long=too_long), Recorder()
    found = encode_held_out(given, moved.encoder, moved.context, config_of(), watch)
    assert [len(prompt.tokens) for prompt in found] == kept
    assert watch.notes == [note]


def test_too_few_training_prompts_are_left(moved: Policy) -> None:
    with pytest.raises(UserError, match=r"^1 training prompt, fewer than prompts_per_step=2"):
        encoded(moved, rows(1, 20), rows(1, 2), Recorder(), too_long="drop", max_prompt_tokens=10)


def test_many_prompts_have_a_phase(moved: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "BATCH", 4)
    watch = Recorder()
    encoded(moved, rows(*[1] * 4), rows(1, 2), watch, too_long="drop")
    assert watch.phases == []
    encoded(moved, rows(*[1] * 5), rows(1, 2), watch, too_long="drop")
    assert watch.phases == ["encoding the prompts"] * 2  # all of them, to drop some; and those that are used
    assert watch.ticks == [2, 2]


def test_the_parts_of_a_mixture_are_encoded_each_by_its_own_settings(moved: Policy) -> None:
    short, long = (rows_of(rows(*[size] * 6), rows(1), max_prompt_tokens=size).parts[0] for size in (5, 9))
    mixed = Rows((replace(short, name="a"), replace(long, name="b", weight=2.0)))
    found, held_out = encode(mixed, moved.encoder, moved.context, config_of(), Recorder())
    # weights 1 and 2, eight prompts: b a b, b a b, b a; the order of use is theirs together
    assert [len(prompt.tokens) for prompt in found.first(8)] == [9, 5, 9, 9, 5, 9, 9, 5]
    assert len(held_out) == 2
