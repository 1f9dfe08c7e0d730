"""From rows to token ids: completions behind their prompt, and pairs as reward=model reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tokenizers import normalizers

from rlhf_cli.errors import UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.models.reward_model import make_encoder
from rlhf_cli.prompts.encoding import Fit
from rlhf_cli.supervised.batches import Example
from rlhf_cli.supervised.objectives.bradley_terry import BradleyTerry
from rlhf_cli.supervised.objectives.dpo import Dpo
from rlhf_cli.supervised.objectives.sft import Sft
from rlhf_cli.supervised.texts import UNCUT, completions_encoder, texts_encoder
from rlhf_cli.types import Message, PromptRow
from tests.unit.supervised.support import BRADLEY_TERRY, DPO, SFT, row_of
from tests.unit.support import source_of

TEMPLATE = (
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
Encode = Callable[[Sequence[PromptRow]], list[Example | None]]


def encoder_of(policy: Policy, objective: dict[str, Any], longest: int = 8, **data: Any) -> Encode:
    fit = Fit.of(source_of(**data), policy.encoder, policy.context, longest)
    if objective["kind"] == "bradley_terry":
        return texts_encoder(BradleyTerry.model_validate(objective), policy, fit, longest)
    kind = Sft if objective["kind"] == "sft" else Dpo
    return completions_encoder(kind.model_validate(objective), policy, fit, longest)


def one(encode: Encode, row: PromptRow) -> Example:
    (example,) = encode([row])
    assert example is not None
    return example


def test_a_completion_stands_behind_its_prompt_and_ends_with_the_end_token(moved: Policy) -> None:
    example = one(encoder_of(moved, SFT), row_of())
    whole = moved.tokenizer("Say a.abc", add_special_tokens=True)["input_ids"]
    assert [*example.prompt.tokens, *example.completions[0]] == [*whole, moved.end_token]
    assert example.lesson.texts == ("abc",)


def test_both_sides_of_a_pair_are_encoded_with_their_votes(moved: Policy) -> None:
    example = one(encoder_of(moved, DPO), row_of(chosen="abc", rejected="zz", share=0.25, margin=1.5))
    assert [moved.decode(tokens) for tokens in example.completions] == ["abc", "zz"]
    assert (example.lesson.share, example.lesson.margin) == (0.25, 1.5)


def test_a_completion_that_is_too_long_is_named_or_left_out(moved: Policy) -> None:
    rows = [row_of(), row_of(2, completion="much too long")]
    with pytest.raises(UserError, match="the completion has 14 tokens, more than max_new_tokens=8") as caught:
        encoder_of(moved, SFT)(rows)
    assert (caught.value.where, caught.value.exit_code) == ("rows.jsonl:2", 3)
    kept = encoder_of(moved, SFT, too_long="drop")(rows)
    assert [example is not None for example in kept] == [True, False]
    # 8 tokens with the end token fit, 9 do not
    assert len(one(encoder_of(moved, SFT), row_of(completion="x" * 7)).completions[0]) == 8
    with pytest.raises(UserError, match="9 tokens"):
        encoder_of(moved, SFT)([row_of(completion="x" * 8)])


@pytest.mark.parametrize("objective", [DPO, BRADLEY_TERRY], ids=["dpo", "reward model"])
def test_a_pair_of_the_same_tokens_is_refused_unless_it_is_a_tie(
    objective: dict[str, Any], moved: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the tokenizer writes all letters small, or the template drops the thoughts that differ."""
    monkeypatch.setattr(moved.tokenizer.backend_tokenizer, "normalizer", normalizers.Lowercase())
    encode = encoder_of(moved, objective)
    assert one(encode, row_of(2, chosen="Yes", rejected="no")).lesson.texts == ("Yes", "no")
    with pytest.raises(UserError) as caught:
        encode([row_of(3, chosen="Yes", rejected="yes")])
    assert caught.value.line() == (
        "chosen and rejected are the same tokens: the tokenizer or the chat template drops what differs "
        '(rows.jsonl:3); fix: remove the row, or call it a tie: "share": 0.5'
    )
    assert one(encode, row_of(chosen="Yes", rejected="yes", share=0.5)).lesson.share == 0.5


def test_a_prompt_that_is_too_long_is_left_out_with_its_completion(moved: Policy) -> None:
    kept = encoder_of(moved, SFT, max_prompt_tokens=6, too_long="drop")([row_of(prompt="x" * 7), row_of(prompt="x")])
    assert [example and example.prompt.text for example in kept] == [None, "x"]


def test_a_text_that_the_tokenizer_would_split_otherwise_behind_the_prompt_is_encoded_by_itself(moved: Policy) -> None:
    """Here the prompt was cut, so that its tokens are not those of its text's beginning."""
    encode = encoder_of(moved, SFT, max_prompt_tokens=4, too_long="truncate_left")
    example = one(encode, row_of(prompt="é" * 3 + "a"))  # two bytes a letter: the cut goes through the second
    assert [*example.completions[0]] == [
        *moved.tokenizer("abc", add_special_tokens=False)["input_ids"],
        moved.end_token,
    ]


@pytest.mark.parametrize("reads", ["auto", "text", "completion"])
def test_a_pair_is_read_as_reward_model_reads_it(reads: str, moved: Policy) -> None:
    row = row_of(chosen="abc", rejected="az")
    example = one(encoder_of(moved, BRADLEY_TERRY | {"reads": reads}), row)
    encode = make_encoder(reads, moved.tokenizer, UNCUT)
    for tokens, text in zip(example.completions, ("abc", "az"), strict=True):
        assert [*example.prompt.tokens, *tokens[:-1]] == encode("Say a.", text)[0]
    assert len(example.prompts) == 1


def test_texts_that_begin_differently_have_their_own_prompts(moved: Policy) -> None:
    example = one(encoder_of(moved, BRADLEY_TERRY | {"reads": "completion"}), row_of(chosen="x", rejected="zab"))
    whole = [[*p.tokens, *tokens[:-1]] for p, tokens in zip(example.prompts, example.completions, strict=True)]
    assert whole == [moved.tokenizer(text)["input_ids"] for text in ("x", "zab")]


def test_a_pair_that_is_too_long_is_named_left_out_or_loses_its_beginning(moved: Policy) -> None:
    rows, limits = [row_of(chosen="y" * 9, rejected="y")], {"longest": 8, "max_prompt_tokens": 6}
    with pytest.raises(
        UserError, match=r"15 tokens, more than data\.max_prompt_tokens and max_new_tokens: 14"
    ) as caught:
        encoder_of(moved, BRADLEY_TERRY, **limits)(rows)
    assert caught.value.where == "rows.jsonl:1"
    assert encoder_of(moved, BRADLEY_TERRY, too_long="drop", **limits)(rows) == [None]
    (cut,) = encoder_of(moved, BRADLEY_TERRY, too_long="truncate_left", **limits)(rows)
    assert cut is not None
    assert len(cut.prompts[0].tokens) + len(cut.completions[0]) - 1 == 14
    with pytest.raises(UserError, match=r"the same tokens: data\.too_long=truncate_left cuts off what differs"):
        encoder_of(moved, BRADLEY_TERRY, too_long="truncate_left", **limits)(
            [row_of(chosen="y" * 19, rejected="y" * 18)]
        )
    with pytest.raises(UserError, match="the text has 306 tokens, more than the model reads: 63"):
        encoder_of(moved, BRADLEY_TERRY, max_prompt_tokens=99)([row_of(chosen="y" * 300, rejected="y")])


def test_a_model_without_a_template_cannot_read_chats(moved: Policy) -> None:
    with pytest.raises(UserError, match="no chat template") as caught:
        encoder_of(moved, BRADLEY_TERRY | {"reads": "chat"})
    assert caught.value.where == "objective.reads"


def test_a_chat_ends_with_the_templates_end_of_turn(moved_policies: Callable[[str], Policy]) -> None:
    policy = moved_policies("llama")
    tokenizer, before = policy.tokenizer, policy.tokenizer.chat_template
    tokenizer.chat_template = TEMPLATE
    try:
        chat = replace(policy, use_chat_template=True)
        example = one(encoder_of(chat, SFT, longest=6), row_of(prompt=(Message("user", "Hi"),), completion="abc"))
        assert example.prompt.text == "<user>Hi<|end|><assistant>"
        assert tokenizer.decode(example.completions[0]) == "abc<|end|>"
        pair = one(encoder_of(chat, BRADLEY_TERRY, longest=40), row_of(chosen="abc", rejected="zz"))
        whole = tokenizer.decode([*pair.prompt.tokens, *pair.completions[0][:-1]])
        assert whole == "<user>Say a.<|end|><assistant>abc<|end|>"
        tokenizer.chat_template = "{{ tools[0].function.name }}" + TEMPLATE
        row = row_of(chosen="abc", rejected="zz", tools=[{"type": "function", "function": {"name": "add"}}])
        pair = one(encoder_of(chat, BRADLEY_TERRY, longest=40), row)
        assert tokenizer.decode(pair.prompt.tokens).startswith("add<user>Say a.")
    finally:
        tokenizer.chat_template = before
