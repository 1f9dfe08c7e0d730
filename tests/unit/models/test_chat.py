"""Prompts through chat templates: nothing is left out, doubled or closed unasked, and every end of a turn is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.models.building import _find_anchor
from rlhf_cli.models.chat import (
    TemplateError,
    find_end_of_turn,
    find_header,
    find_openings,
    is_rendered,
    render,
    render_whole,
)
from rlhf_cli.models.encoder import Encoder
from rlhf_cli.models.policy import Policy
from rlhf_cli.types import Message, PromptRow

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOLS = (
    "{% if tools %}{{ tools[0].name }}\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}"
    "{{ m.name }}\n{{ m.content }}{% for call in m.tool_calls %}<call {{ call.name }}>{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_TOOLS = "{% for m in messages if m.role in ('system', 'user') %}<|im_start|>{{ m.content }}{% endfor %}"
PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
ROLES, TEXTS = ("system", "user", "assistant"), st.text(min_size=1)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>")
USER, SYSTEM = {"role": "user", "content": "Hi"}, {"role": "system", "content": "Be kind."}


def tokenizer(template: str | None = CHATML, begin: str = "", **names: str) -> PreTrainedTokenizerBase:
    """A byte tokenizer with ChatML's special tokens; `begin` is what it adds around a raw text, such as "<s> $A"."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(list(SPECIAL))
    if begin:
        special = [(token, inner.token_to_id(token)) for token in SPECIAL]
        inner.post_processor = processors.TemplateProcessing(single=begin, special_tokens=special)
    made = PreTrainedTokenizerFast(tokenizer_object=inner, **({"eos_token": "<|endoftext|>"} | names))
    made.chat_template = template
    return made


def encoder(template: str | None = CHATML, begin: str = "", **names: str) -> Encoder:
    made = tokenizer(template, begin, **names)
    return Encoder(made, use_chat_template=template is not None, vocabulary=len(made))


def text_of(encoder: Encoder, prompt: Any, **columns: Any) -> str:
    """What the policy reads: the text of all tokens."""
    turns = prompt if isinstance(prompt, str) else tuple(Message(**turn) for turn in prompt)
    return encoder.decode_all(encoder.encode([PromptRow(turns, columns, "f:1")])[0])


class TestWhole:
    """A prompt holds all that was asked for, or is refused."""

    @pytest.mark.case(54)
    def test_a_prefill_is_left_open(self) -> None:
        chat = [USER, {"role": "assistant", "content": "Let me think.\n<think>"}]
        assert render_whole(tokenizer(), chat) == (
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nLet me think.\n<think>"
        )

    @pytest.mark.case(58)
    def test_keys_of_a_message_reach_the_template(self) -> None:
        chat = [USER, {"role": "assistant", "content": None, "tool_calls": [{"name": "weather"}]}]
        chat += [{"role": "tool", "content": "12 degrees", "name": " weather"}]
        text = render_whole(tokenizer(TOOLS), chat, [{"name": "weather"}])
        assert text.startswith("weather\n<|im_start|>user\nHi")
        assert "<|im_start|>assistant\n<call weather><|im_end|>" in text  # and no "None" for the missing content
        assert "<|im_start|>tool weather\n12 degrees" in text

    @pytest.mark.case(58)
    @pytest.mark.parametrize(
        ("template", "chat", "tools", "what"),
        [
            (
                CHATML,
                [USER, {"role": "assistant", "content": "", "calls": [1]}, USER],
                None,
                "calls of a message",
            ),
            (CHATML, [USER | {"name": "Ann"}], None, "name of a message"),
            (CHATML, [USER], [{"name": "weather"}], "the row's tools"),
            ("{{ messages[-1].content }}", [SYSTEM, USER], None, "the system's message"),
            ("{{ messages[0].content[:1] }}", [USER], None, "the user's message"),
            (NO_TOOLS, [USER, {"role": "tool", "content": "42"}, USER], None, "the tool's message"),
            (NO_TOOLS, [USER, {"role": "assistant", "content": "No."}, USER], None, "the assistant's message"),
        ],
    )
    def test_what_the_template_leaves_out_is_named(
        self, template: str, chat: list[dict[str, Any]], tools: Any, what: str
    ) -> None:
        with pytest.raises(TemplateError, match=f"leaves out {what}$"):
            render_whole(tokenizer(template), chat, tools)

    @pytest.mark.parametrize("prompt", ["Hi", [USER]], ids=["text", "chat"])
    def test_the_rows_tools_reach_the_template_with_any_prompt(self, prompt: Any) -> None:
        written = text_of(encoder(TOOLS), prompt, tools=[{"name": "weather"}])
        assert written.startswith("weather\n<|im_start|>user")
        with pytest.raises(UserError, match="leaves out the row's tools"):
            text_of(encoder(), prompt, tools=[{"name": "weather"}])
        assert text_of(encoder(), prompt, tools=[]) == text_of(encoder(), prompt)

    @pytest.mark.parametrize("form", ["m.content.split('</think>')[-1]", "m.content | tojson"])
    def test_a_message_in_another_form_is_not_left_out(self, form: str) -> None:
        template = "{% for m in messages %}{{ m.content if m.role == 'user' else " + form + " }}{% endfor %}"
        answer = {"role": "assistant", "content": '<think>Hm.</think>\n"No"'}
        assert "No" in render_whole(tokenizer(template), [USER, answer, USER])

    def test_it_is_the_datas_fault(self) -> None:
        with pytest.raises(UserError) as caught:
            text_of(encoder("no message"), "Hi")
        assert caught.value.exit_code == EXIT_DATA
        assert caught.value.line() == (
            "the model's chat template leaves out the user's message (f:1); "
            "fix: change the prompt, or use raw text: model.prompt_format=raw"
        )

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        template=st.sampled_from(
            [CHATML, TOOLS, "{{ bos_token }}" + CHATML, "{% for m in messages %}{{ m.content }}{% endfor %}"]
        ),
        chat=st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text(min_size=1)}
            ),
            min_size=1,
            max_size=4,
        ),
    )
    def test_every_message_is_in_what_the_policy_reads(self, template: str, chat: list[dict[str, str]]) -> None:
        """For any chat and template: all texts, in order, or a refusal."""
        try:
            text = text_of(encoder(template, bos_token="<s>"), chat)
        except UserError:
            return
        place = 0
        for turn in chat:
            place = text.index(turn["content"].strip(), place) + len(turn["content"].strip())
        assert text.count("<s>") - "".join(turn["content"] for turn in chat).count("<s>") <= 1


class TestRepeats:
    """A prompt is the same on another day, and in another process."""

    def test_the_date_is_always_the_same_and_said(self) -> None:
        made = encoder("{{ strftime_now('%d %b %Y %H:%M') }}\n" + CHATML)
        assert text_of(made, "Hi").startswith("26 Jul 2024 00:00\n<|im_start|>user\nHi")
        assert made.template_notes() == [
            "the chat template writes the date: always 26 Jul 2024, so that the run repeats"
        ]
        assert encoder().template_notes() == encoder(None).template_notes() == []

    @pytest.mark.parametrize("choice", ["{{ ['a', 'b'] | random }}", "{{ [['a']] | map('random') | join }}"])
    def test_a_choice_at_random_is_refused(self, choice: str) -> None:
        with pytest.raises(TemplateError, match="chooses at random, so that no run would repeat"):
            render(tokenizer(choice + CHATML), [USER])
        assert render(tokenizer("Be random. " + CHATML), [USER]).startswith("Be random. <|im_start|>user")


class TestOpened:
    """A prompt ends where the answer begins."""

    NOTE = "the chat template does not open the assistant's turn: the model goes on behind the user's"

    def test_a_template_without_the_header_is_said(self) -> None:
        assert encoder(CHATML.partition("{% if add")[0]).template_notes() == [self.NOTE]

    @pytest.mark.parametrize(
        "template",
        [
            CHATML,
            "{% for m in messages %}{{ '[' + m.content + ']' if m.role == 'user' else m.content }}{% endfor %}",
            CHATML.replace("assistant\n{%", "assistant\n<think>\n{%"),
            "{{ raise_exception('no') }}",
            "<s>{{ messages[0].content }}<|im_end|>{% for m in messages[1:] %}{{ m.content }}{% endfor %}",
        ],
        ids=["ChatML", "Mistral's", "with thoughts", "refuses", "no header"],
    )
    def test_others_are_sound(self, template: str) -> None:
        assert encoder(template).template_notes() == []


class TestRendered:
    """A prompt that has been through a template is not put through it again."""

    @pytest.mark.case(55)
    @pytest.mark.parametrize("template", [CHATML, "{{ bos_token }}" + CHATML])
    @pytest.mark.parametrize("bos", ["", "<s>"])
    def test_it_is_taken_as_it_is(self, template: str, bos: str) -> None:
        made = encoder(template, "<s> $A", bos_token="<s>")
        text = bos + render(tokenizer(CHATML), [USER])
        (prompt,) = made.encode([PromptRow(text, {}, "f:1")])
        assert made.decode_all(prompt) == text
        assert made.oddity(prompt) == "begin as the chat template does: they are taken as rendered already"

    def test_others_are_rendered(self) -> None:
        made = encoder()
        (prompt,) = made.encode([PromptRow("What does <|im_start|> mean?", {}, "f:1")])
        assert prompt.text.startswith("<|im_start|>user\nWhat does <|im_start|> mean?<|im_end|>")
        assert made.oddity(prompt) is None

    def test_templates_without_special_tokens(self) -> None:
        plain = "{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
        begins = find_openings(tokenizer(plain))
        assert begins == ("[INST]",)
        assert is_rendered(" [INST] Hi [/INST]", begins, SPECIAL)
        assert is_rendered("<s>[INST] Hi [/INST]", begins, SPECIAL)
        assert not is_rendered("Hi [INST]", begins, SPECIAL)
        assert not is_rendered("Hi", find_openings(tokenizer("{{ messages[0].content }}")), SPECIAL)


class TestRaw:
    """What a tokenizer adds around a raw prompt."""

    @pytest.mark.case(55)
    def test_bos_is_not_doubled(self) -> None:
        made = encoder(None, "<s> $A", bos_token="<s>")
        assert text_of(made, "Hi") == text_of(made, "<s>Hi") == "<s>Hi"
        (prompt,) = made.encode([PromptRow("<s>Hi", {}, "f:1")])
        assert made.oddity(prompt) == "begin with <s> themselves: no second one is added"

    def test_an_end_that_the_tokenizer_adds_is_said(self) -> None:
        made = encoder(None, "$A <|endoftext|>")
        (prompt,) = made.encode([PromptRow("Hi", {}, "f:1")])
        assert made.oddity(prompt) == (
            "get <|endoftext|> at their end from the tokenizer, which tells the model that the text is over"
        )

    def test_text_that_the_tokenizer_does_not_know_is_said(self) -> None:
        inner = Tokenizer(models.WordLevel({"?": 0, "Hi": 1}, unk_token="?"))
        inner.pre_tokenizer = pre_tokenizers.Whitespace()
        for own, said in (("Hi there", True), ("Hi ?", False), ("Hi", False)):
            for eos, is_own in (("Hi", False), ("?", True)):  # GPT-2's unknown token is its end of text
                made = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="?", eos_token=eos)
                one = Encoder(made, use_chat_template=False, vocabulary=2)
                oddity = one.oddity(one.encode([PromptRow(own, {}, "f:1")])[0])
                note = "hold what the tokenizer does not know, and the model reads ? there"
                assert (oddity == note) == (said and not is_own)

    @pytest.mark.case(67)
    def test_a_token_beyond_the_embedding_is_refused(self) -> None:
        made = Encoder(tokenizer(None), use_chat_template=False, vocabulary=256)
        with pytest.raises(UserError) as caught:
            made.encode([PromptRow("Hi<s>", {}, "f:7")])
        assert caught.value.what == "the prompt's token '<s>' is number 259, but the model has embeddings for 256"
        assert (caught.value.where, caught.value.exit_code) == ("f:7", EXIT_DATA)


class TestEnd:
    """The token behind the assistant's turn."""

    @pytest.mark.parametrize(
        ("template", "token"),
        [
            (CHATML, "<|im_end|>"),
            ("{% for m in messages %}{{ m.content }}\n{{ eos_token }}<|im_start|>{% endfor %}", "<|endoftext|>"),
            ("{% for m in messages %}{{ m.content }}{% endfor %}", None),
            ("{{ raise_exception('one turn alone') }}", None),
        ],
    )
    def test_it_is_found(self, template: str, token: str | None) -> None:
        made = tokenizer(template)
        assert find_end_of_turn(made) == (None if token is None else made.convert_tokens_to_ids(token))


class TestHeader:
    """The text before the assistant's turn."""

    @pytest.mark.parametrize(
        ("template", "header"),
        [
            (CHATML, "<|im_start|>assistant"),
            (CHATML.replace("assistant\n", "assistant\n<think>\n"), "<|im_start|>assistant"),
            ("{% for m in messages %}[{{ m.content }}]{% endfor %}", None),
            ("{{ raise_exception('one turn alone') }}", None),
        ],
        ids=["chatml", "thoughts are opened as well", "no header", "refused"],
    )
    def test_it_is_found(self, template: str, header: str | None) -> None:
        assert find_header(tokenizer(template)) == header


def sentencepiece() -> PreTrainedTokenizerBase:
    """A tokenizer that writes a space as a part of the word behind it, and drops the first one of a text."""
    inner = Tokenizer(models.BPE(vocab={"<unk>": 0, "▁": 1, "a": 2, "▁a": 3}, merges=[("▁", "a")], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<unk>")


def test_tokenizers_that_drop_a_space_have_an_anchor() -> None:
    made = sentencepiece()
    assert made.decode([3]) == "a"
    assert _find_anchor(made) == (3,)
    assert _find_anchor(tokenizer()) == ()


def test_a_completion_keeps_the_space_that_its_tokenizer_drops(moved_policies: Callable[[str], Policy]) -> None:
    made = sentencepiece()
    policy = replace(moved_policies("llama"), tokenizer=made, anchor=_find_anchor(made))
    assert [policy.decode(tokens) for tokens in ([3], [3, 3], [2, 3], [])] == [" a", " a a", "a a", ""]
