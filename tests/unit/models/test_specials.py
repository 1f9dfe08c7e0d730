"""Special tokens in the texts of completions: kept where the template writes them or the reward looks for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rlhf_cli.models.policy import Policy
from rlhf_cli.models.specials import SpecialTokens, is_named, special_ids
from rlhf_cli.models.tiny import byte_tokenizer
from tests.unit.rewards.support import made
from tests.unit.support import build, tiny

THINK, CLOSE, TURN, END = "<think>", "</think>", "<|im_start|>", "<|im_end|>"


@pytest.fixture(scope="module")
def policy() -> Policy:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [THINK, CLOSE, TURN, END]})
    tokenizer.chat_template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    return dataclasses.replace(build(tiny()), tokenizer=tokenizer)


@pytest.mark.case(56)
@pytest.mark.parametrize(
    ("mode", "strings", "use_chat_template", "text"),
    [
        ("auto", (), False, "a b c"),
        ("auto", (), True, f"a b{TURN} c"),
        ("auto", (r"<think>.*",), False, f"{THINK}a{CLOSE} b c"),  # a token and the one that closes it
        ("auto", (r"</?think>",), False, f"{THINK}a{CLOSE} b c"),
        ("auto", (END,), True, f"a b{TURN} c"),
        ("strip", (THINK,), True, "a b c"),
        ("keep", (), False, f"{THINK}a{CLOSE} b{TURN} c"),
    ],
)
def test_what_a_text_keeps(
    policy: Policy, mode: str, strings: tuple[str, ...], use_chat_template: bool, text: str
) -> None:
    ids = special_ids(policy.tokenizer)
    a, b, c = policy.tokenizer(["a", " b", " c"], add_special_tokens=False)["input_ids"]
    tokens = [ids[THINK], *a, ids[CLOSE], *b, ids[TURN], *c, ids[END]]
    kept = SpecialTokens(mode, strings).select(  # type: ignore[arg-type]
        policy.tokenizer, {ids[END]}, use_chat_template=use_chat_template
    )
    reading = dataclasses.replace(policy, kept_tokens=frozenset(kept))
    assert reading.decode(tokens) == text
    assert reading.decode(a) == "a"


@pytest.mark.case(56)
def test_what_is_looked_for_in_vain_is_named(policy: Policy) -> None:
    ids = special_ids(policy.tokenizer)
    reading = dataclasses.replace(policy, kept_tokens=frozenset({ids[THINK]}))
    assert reading.hidden_from_texts([r"<think>(.*)</think>", rf"x{END}$"]) == [CLOSE, END]
    assert reading.hidden_from_texts(["think", "7"]) == []


@pytest.mark.parametrize(
    ("text", "is_it"),
    [
        ("<think>", True),
        ("</?think>", True),
        (r"\<think\>", True),
        ("<(?:think|answer)>", True),
        ("I think", False),
        ("<thinking>", False),
        ("<a> think", True),  # a little too much is kept rather than too little
        ("", False),
    ],
)
def test_a_pattern_names_a_token(text: str, is_it: bool) -> None:
    assert is_named(THINK, [text]) is is_it


def test_what_a_reward_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made("regex", pattern=THINK).strings == (THINK,)
    assert made("keyword", words=["a", "b"], avoid=["c"]).strings == ("a", "b", "c")
    assert made("math", extract="(a)").strings == ("(a)",)
    assert made("exact_match").strings == made("length").strings == ()
    (tmp_path / "rewards.py").write_text("# <think>\n")
    monkeypatch.chdir(tmp_path)
    assert made("python", function="rewards.py:f").strings == made("python", function="rewards:f").strings
    assert made("python", function="rewards:f").strings == ("# <think>\n",)
    assert made("python", function="absent.py:f").strings == ()
