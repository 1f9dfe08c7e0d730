"""Whether a completion matches a pattern."""

from __future__ import annotations

import time

import pytest

from rlhf_cli.rewards.texts import text_of
from tests.unit.rewards.support import limit, made, refusal, score_function

THINK = r"<think>.*?</think>\s*<answer>.*?</answer>"


def scores(texts: list[str], **settings: object) -> list[float | None]:
    return score_function(made("regex", **settings))(completions=texts)


@pytest.mark.parametrize(
    ("pattern", "match", "flags", "text", "expected"),
    [
        ("b+", "search", [], "abbc", 1.0),
        ("b+", "fullmatch", [], "abbc", 0.0),
        ("b+", "fullmatch", [], "bb", 1.0),
        ("b", "fullmatch", [], "b\n", 0.0),
        ("b+", "search", [], "aBc", 0.0),
        ("b+", "search", ["ignorecase"], "aBc", 1.0),
        ("^b", "search", [], "a\nb", 0.0),
        ("^b", "search", ["multiline"], "a\nb", 1.0),
        ("^B", "search", ["multiline", "ignorecase"], "a\nb", 1.0),
        ("^B", "search", ["ignorecase", "ignorecase"], "b", 1.0),
        ("a.b", "search", [], "a\nb", 0.0),
        ("a.b", "search", ["dotall"], "a\nb", 1.0),
        ("(?i)b", "search", [], "B", 1.0),
        ("b*", "search", [], "", 1.0),
        ("b", "search", [], "", 0.0),
        (THINK, "fullmatch", ["dotall"], "<think>2+2\n=4</think>\n<answer>4</answer>", 1.0),
        (THINK, "fullmatch", ["dotall"], "<think>2+2=4</think> 4", 0.0),
        (THINK, "fullmatch", ["dotall"], "Well. <think>2+2=4</think><answer>4</answer>", 0.0),
        ("[[a]", "search", [], "x[", 1.0),  # of which Python warns
    ],
)
def test_one_or_nothing(pattern: str, match: str, flags: list[str], text: str, expected: float) -> None:
    assert scores([text], pattern=pattern, match=match, flags=flags) == [expected]


def test_the_text_of_a_chat() -> None:
    score = score_function(made("regex", pattern="^yes"))
    chats = [[{"role": "assistant", "content": text}] for text in ("yes, I do", "no, yes")]
    assert score(completions=chats) == [1.0, 0.0]
    assert text_of([*chats[1], *chats[0]]) == "yes, I do"


@pytest.mark.usefixtures("no_collection")
def test_a_text_on_which_the_pattern_never_ends_costs_no_other_its_score(capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    found = scores(["aaa", "a" * 60 + "b", "b"], pattern="(a|a)+$", match="fullmatch", seconds=0.05)
    assert found == [1.0, None, 0.0]
    assert time.monotonic() - start < 20  # of hours
    assert capsys.readouterr().err == f"no score within 0.05 s: '{'a' * 60}b'\n"


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(a", "must be a regular expression: missing ), unterminated subpattern at position 0"),
        ("ab[c", "must be a regular expression: unterminated character set at position 2"),
        ("a{99999999999}", "must be a regular expression: the repetition number is too large"),
        ("(?<=a*)b", "must be a regular expression: look-behind requires fixed-width pattern"),
    ],
)
def test_a_bad_pattern_is_refused_by_its_place(pattern: str, said: str) -> None:
    assert refusal("regex", pattern=pattern).endswith(said)


def test_settings() -> None:
    assert made("regex", pattern="a").highest == 1.0
    assert limit("regex", pattern="") == "string_too_short"
    assert limit("regex", pattern="a", flags=["verbose"]) == "literal_error"
    assert limit("regex", pattern="a", seconds=0.0) == "greater_than"
