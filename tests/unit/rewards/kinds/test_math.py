"""Whether an answer has the value of the one in the data."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.rewards.formulas import read_expected
from rlhf_cli.rewards.kinds import math as of_math
from tests.unit.rewards.support import limit, made, refusal, score_function

FORMAT = 0.25
GSM8K = r"####\s*(.*)"


def scores(texts: list[Any], answers: list[Any], **settings: object) -> list[float | None]:
    pytest.importorskip("math_verify")
    reward = made("math", **({"format_score": FORMAT} | settings))
    return score_function(reward)(completions=texts, **{name: answers for name in reward.needs})


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        # plain numbers, units, and where the answer is
        ("72", "72", 1.0),
        ("72", "The answer is 72.", 1.0),
        ("72", "#### 72", 1.0),
        ("72", "She has 72 apples left.", 1.0),
        ("72", "It costs $72", 1.0),
        ("$72", "72 dollars", 1.0),
        ("72", r"So \boxed{72}", 1.0),
        ("72", r"$\boxed{70}$ is wrong, $\boxed{72}$ is right", 1.0),
        ("72", r"\boxed{70} or \boxed{72}", FORMAT),  # without $, a set of two
        ("72", r"\boxed{72}, though 70 is near", 1.0),  # what is boxed goes before the last number
        ("72", "First 48, then 24, in total 72", 1.0),
        ("72", "72, I think, or 70", FORMAT),
        ("72", "answer: 70 or 72", FORMAT),
        ("72", "The answer is 72 (seventy-two).", 1.0),
        ("72", "The answer is 72 (not 70).", 1.0),
        ("72", "The answer is 70 (not 72).", FORMAT),
        ("72", "72 (seventy-two)", 1.0),
        (r"3\sin(x)", "The answer is 3 (sin x)", 1.0),
        ("72", "The answer is seventy-two.", 0.0),
        ("72", "no idea", 0.0),
        ("72", "", 0.0),
        ("72", "72.0", 1.0),
        ("72", "72.5", FORMAT),
        ("3.50", "$3.5", 1.0),
        # thousands
        ("1,000", "It costs $1000.", 1.0),
        ("1000", "He has 1,000 apples", 1.0),
        ("1 000", "1000", 1.0),
        # signs
        ("-5", "-5", 1.0),
        ("-5", "\N{MINUS SIGN}5", 1.0),
        ("\N{MINUS SIGN}5", "-5", 1.0),
        ("-5", "5", FORMAT),
        # fractions and per cent
        (r"\frac{1}{2}", "1/2", 1.0),
        ("1/2", r"\frac{1}{2}", 1.0),
        ("1/2", "0.5", 1.0),
        ("3/4", r"$\dfrac{6}{8}$", 1.0),
        ("1/3", "0.333333", 1.0),  # to six decimals
        ("1/3", "0.3333", FORMAT),
        ("1/2", "½", 1.0),
        ("½", "0.5", 1.0),
        ("3 1/2", "The answer is 3½.", 1.0),
        ("-⅞", r"$-\frac{7}{8}$", 1.0),
        ("½", "¼", FORMAT),
        # near zero: to six decimals all of these are the same
        ("1.2e-7", r"$1.2 \times 10^{-7}$", 1.0),
        (r"1.6 \times 10^{-19}", r"$1.6 \times 10^{-19}$", 1.0),
        (r"1.6 \times 10^{-19}", r"$2.7 \times 10^{-19}$", FORMAT),
        ("0.0000001", "0.0000002", FORMAT),
        ("0.0000001", "0.00000010000", 1.0),
        ("1/70000", "0.0000143", 1.0),  # 1.42857e-5
        ("1/70000", "0.000014", FORMAT),
        ("1/700", "0.001429", 1.0),
        ("0.0", "0.0000001", 1.0),
        ("-0.0000001", "0.0000001", FORMAT),
        ("50%", "0.5", 1.0),
        ("50", "50%", 1.0),
        ("50%", "51%", FORMAT),
        # LaTeX, in a text and bare
        (r"\sqrt{2}", r"$\sqrt{2}$", 1.0),
        (r"2\sqrt{3}", r"$2\sqrt{3}$", 1.0),
        (r"2\sqrt{3}", "2", FORMAT),
        ("x^2+1", "$1+x^2$", 1.0),
        (r"$\frac{\frac{1}{2}}{3}$", r"\boxed{\frac{1}{6}}", 1.0),
        ("x=3", "3", 1.0),
        ("$2x+z=1$", "$1=z+2x$", 1.0),
        ("$2x+z=1$", "1", FORMAT),
        ("(1,2)", "$(1,2)$", 1.0),
        ("(1,2)", "$(2,1)$", FORMAT),
        ("1", r"\boxed{" * 100 + "1" + "}" * 100, 1.0),
        # numbers out of a file are numbers
        (72, "72", 1.0),
        (0.5, "1/2", 1.0),
        # very long
        ("9" * 4000, "9" * 4000, 1.0),
        ("9" * 4000, "9" * 3999 + "8", FORMAT),
        ("72", "9" * 10_000, 0.0),
        ("72", "72 " + "word " * 4000, 1.0),
        ("9" * 5000, "9" * 5000, None),
        ("72", "9**9**9**9", FORMAT),
        # nonsense
        ("72", "(" * 5000, 0.0),
        ("72", r"\frac{" * 500, 0.0),
        ("72", "\x00\ud800\x1b[2J", 0.0),
        ("72", "#### $ \\boxed{}", 0.0),
        # rows without an answer
        (None, "72", None),
        ("", "72", None),
        ([72], "72", None),
    ],
)
def test_by_value(answer: Any, text: str, expected: float | None) -> None:
    assert scores([text], [answer]) == [expected]


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        ("48/2 = <<48/2=24>>24\n48+24 = <<48+24=72>>72 in all.\n#### 72", "So the answer is 72.", 1.0),
        ("#### 1,080", "1080", 1.0),
        ("#### -3", "-3", 1.0),
        ("#### 72", "24", FORMAT),
        ("72", "72", None),
        ("#### none", "72", FORMAT),  # letters are symbols
    ],
)
def test_gsm8k(answer: str, text: str, expected: float | None) -> None:
    assert scores([text], [answer], extract_expected=GSM8K) == [expected]


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize(
    "text",
    ["$9^{9^{9^9}}$", "$" + "{" * 300 + "2" + "}" * 300 + "$", "$100000000!$", " 1" * 10_000],
    ids=lambda text: text[:9],
)
def test_a_hard_expression_costs_no_other_its_score(text: str) -> None:
    start = time.monotonic()
    assert scores(["72", text, "71"], ["72"] * 3, seconds=0.2) == [1.0, None, FORMAT]
    assert time.monotonic() - start < 20  # of hours


def test_loading_the_library_is_no_answers_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("math_verify")
    limited = []

    def read(text: str) -> list[Any]:
        limited.append(signal.getitimer(signal.ITIMER_REAL)[0] > 0)
        return read_expected(text)

    monkeypatch.setattr(of_math, "read_expected", read)
    of_math._prepare.cache_clear()
    of_math._why_unreadable.cache_clear()
    assert made("math", seconds=60).wrong_value("3 + 4i") is None
    of_math._prepare.cache_clear()
    assert scores(["72"], ["72"], seconds=60) == [1.0]
    assert limited == [False, True, False, True]


@pytest.mark.usefixtures("no_collection")
def test_a_right_answer_that_takes_too_long_is_not_called_no_mathematics(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("math_verify")
    monkeypatch.setattr(of_math, "_prepare", lambda: None)
    monkeypatch.setattr(of_math, "read_expected", lambda text: time.sleep(60) if text == "2x + 2" else [])
    of_math._why_unreadable.cache_clear()
    assert made("math", seconds=0.05).wrong_value("2x + 2") == "is not read within seconds=0.05"
    assert made("math", seconds=60).wrong_value("2x + 3") == "is neither one number nor one expression"
    of_math._why_unreadable.cache_clear()


def test_the_text_of_a_chat() -> None:
    assert scores([[{"role": "assistant", "content": "It is 72."}]], ["72"]) == [1.0]


def test_the_library_does_not_warn_of_being_without_its_own_timeouts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("math_verify")
    for module in ("parser", "grader"):
        monkeypatch.setattr(f"math_verify.{module}.TIMEOUT_WARNING_SHOWN", False)
    assert scores(["72"], ["72"]) == [1.0]
    assert caplog.records == []


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_math, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        made("math").check("reward")
    assert caught.value.line() == "math-verify is not installed (reward); fix: pip install 'rlhf-cli[math]'"


def test_settings() -> None:
    reward = made("math", column="solution")
    assert (reward.highest, reward.needs) == (1.0, ("solution",))
    assert limit("math", format_score=1.5) == "less_than_equal"
    assert refusal("math", extract_expected="72").endswith("and has 0")
