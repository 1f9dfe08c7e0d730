r"""Right and wrong answers, each worked by hand, as a reward of kind math scores them."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_cli.rewards.formulas import is_plain_number, may_be_readable, read_expected
from tests.unit.rewards.support import made, score_function

RIGHT: list[tuple[str, list[str]]] = [
    # whole expressions
    ("5x-7", [r"So the answer is \boxed{5x-7}.", "5x - 7", r"$-7+5x$", "The answer is 5x-7.", "<answer>5x-7</answer>"]),
    ("2^{10}", [r"\boxed{1024}", r"\boxed{2^{10}}", "2^10", "2**10", "Answer: 1024"]),
    ("2**10", ["1024", r"$2^{10}$"]),
    ("1,-2", [r"\boxed{1,-2}", r"\boxed{-2, 1}", "The answer is 1 and -2.", "Answer: -2, 1"]),
    ("3 + 4i", [r"\boxed{3+4i}", r"$4i+3$"]),
    ("x^2 - 1", [r"\boxed{(x-1)(x+1)}", "x**2 - 1", "x² - 1"]),
    ("n(n+1)/2", [r"\boxed{\frac{n(n+1)}{2}}", r"$\frac{n^2+n}{2}$"]),
    ("sqrt(2)", [r"$\sqrt{2}$", "√2", "sqrt(2)"]),
    ("2√3", [r"\boxed{2\sqrt{3}}", r"\boxed{\sqrt{12}}"]),
    ("2pi", [r"\boxed{2\pi}", "2π"]),
    (r"\pi r^2", [r"\boxed{\pi r^2}", r"$r^2 \pi$"]),
    ("log_2(8)", ["3", r"$\log_2 8$"]),
    ("5!", ["120"]),
    ("x=3", ["3", "x = 3", r"\boxed{x=3}"]),
    ("y = 2x + 1", [r"\boxed{y=2x+1}"]),
    ("x >= 3", [r"\boxed{x \ge 3}", "x ≥ 3"]),
    # where the answer stands
    (
        "7",
        ["<answer>7</answer>", "Answer:7", "(7)", "**7**", "answer is: **7**", "#### 7", "`7`", "7.", "$7$", r"\(7\)"],
    ),
    (
        "7",
        [
            "I take 3.\n<answer>\n7\n</answer>",
            "The final answer is (7).",
            r"<answer>\boxed{7}</answer>",
            "**Answer:** 7",
        ],
    ),
    ("7", ["3 + 4 = 7", "It is 7, since 3 + 4 = 7.\nAnswer: 7", "Answer: 7. I checked 3 and 4.", r"x = \boxed{7}"]),
    ("7", ["Final Answer: The final answer is $7$. I hope it is correct.", "The answer is $7$."]),
    ("3 + 4 = <<3+4=7>>7 in all.\n#### 7", ["7", r"\boxed{7}"]),
    # money
    (r"\$18.90", ["18.90", "$18.90", r"\boxed{\$18.90}", "It costs $18.90.", "18.9", "18.90 dollars"]),
    ("18", ["She has $18 left.", "$18", r"\$18", "18 €"]),
    ("$1,234.50", ["1234.5", "$1,234.50"]),
    # thousands, powers of ten
    ("1,000", ["1000", "1 000", r"\boxed{1{,}000}", r"\boxed{1\,000}", "1,000.0", "1e3", r"$10^3$"]),
    ("1000000", ["1,000,000", "1 million", r"\boxed{10^6}"]),
    ("1.5e-3", ["0.0015", r"\boxed{1.5 \times 10^{-3}}"]),
    # per cent
    ("50%", ["50%", r"\boxed{50\%}", "0.5", "50", "50 percent", "50 per cent"]),
    (r"12.5\%", ["12.5%", "0.125"]),
    # units
    ("72 apples", ["72", "72 apples", "Answer: 72 apples", r"\boxed{72}"]),
    ("10 km/h", ["10", "10 km/h", r"\boxed{10 \text{ km/h}}"]),
    (r"5 \text{ cm}^2", ["5", r"\boxed{5\text{ cm}^2}", "5 cm^2"]),
    ("90°", ["90", r"\boxed{90^\circ}", "90 degrees"]),
    # fractions
    ("1/2", ["0.5", r"\boxed{\frac{1}{2}}", r"\boxed{\dfrac12}", "2/4", "Answer: 1/2"]),
    ("3 1/2", ["3.5", "7/2", r"\boxed{3\frac{1}{2}}", r"\boxed{\frac{7}{2}}"]),
    (r"-\frac{2}{3}", ["-2/3", r"\boxed{\frac{-2}{3}}"]),
    ("1/2 cup", ["1/2", "0.5"]),
    ("-.5", ["-0.5", "-1/2"]),
    # intervals, sets, tuples, matrices
    ("(1, 2)", [r"\boxed{(1,2)}", "The answer is (1, 2).", "(1,2)"]),
    ("[1, 2)", [r"\boxed{[1,2)}", "Answer: [1,2)"]),
    (r"(-\infty, 3)", [r"\boxed{(-\infty,3)}", "(-inf, 3)", "(-∞, 3)"]),
    ("(-∞,3)∪(5,∞)", [r"\boxed{(-\infty,3)\cup(5,\infty)}"]),
    ("{1,2}", [r"\boxed{\{2,1\}}", r"$\{1,2\}$"]),
    ("(1, 2, 3)", [r"\boxed{(1,2,3)}"]),
    ("3,5", [r"\boxed{5,3}"]),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", [r"\boxed{\begin{pmatrix}1&2\\3&4\end{pmatrix}}"]),
    # words and choices
    ("B", ["(B)", "The answer is B.", r"\boxed{B}", "Answer: (B)", r"\boxed{\text{(B)}}"]),
    ("even", ["The answer is even.", r"\boxed{\text{even}}"]),
    (r"\text{Yes}", ["Answer: yes", r"\boxed{Yes}"]),
]
WRONG: list[tuple[str, list[str]]] = [
    ("5x-7", [r"\boxed{5}", "5", r"\boxed{5x}", "-7", r"\boxed{5x+7}", r"\boxed{7-5x}"]),
    ("2^{10}", [r"\boxed{2}", "10", r"\boxed{2^9}", "20"]),
    ("1,-2", [r"\boxed{1}", "-2", r"\boxed{1,2}", r"\boxed{1,-2,3}"]),
    ("3 + 4i", [r"\boxed{4}", "3", r"\boxed{3-4i}"]),
    ("x^2 - 1", [r"\boxed{x^2}", "1", r"\boxed{x^2+1}"]),
    ("n(n+1)/2", ["2", r"\boxed{n}", r"\boxed{n(n+1)}"]),
    ("sqrt(2)", ["2", r"\boxed{\sqrt{3}}"]),
    ("2√3", ["2", "3", r"\boxed{\sqrt{6}}"]),
    ("2pi", ["2", r"\boxed{\pi}"]),
    ("log_2(8)", ["2", "8"]),
    ("5!", ["5"]),
    ("x >= 3", [r"\boxed{x > 3}", r"\boxed{x \le 3}"]),
    ("7", ["<answer>8</answer> and 7", "Answer:8", "(8)", "**8**", "#### 8", "7 and then 8", "seven", "", "70", "-7"]),
    ("7", ["<answer>7</answer>\n<answer>8</answer>", "Answer: 7\nAnswer: 8", r"\boxed{7}, no: $x$ \boxed{8}", "7.5"]),
    (r"\$18.90", ["18", "90", "$1890", "18.09"]),
    ("1,000", ["1", "100", "10,00", "1,0000"]),
    ("1000000", ["1", "1 billion", "1e5"]),
    ("50%", ["5%", "0.05", "51"]),
    ("72 apples", ["27 apples", "apples"]),
    ("90°", ["9", "180 degrees"]),
    ("1/2", ["1", "2", "1/3", "0.05", "12"]),
    ("3 1/2", ["3", "2", "1.5", "31/2"]),
    ("(1, 2)", ["1", "2", r"\boxed{(2,1)}", r"\boxed{[1,2]}", "The answer is (1, 3)."]),
    ("[1, 2)", [r"\boxed{(1,2)}", r"\boxed{[1,2]}"]),
    (r"(-\infty, 3)", ["3", r"\boxed{(-\infty,3]}"]),
    ("{1,2}", [r"\boxed{\{1\}}", "2"]),
    ("(1, 2, 3)", [r"\boxed{(1,3,2)}", "3"]),
    ("3,5", ["3.5", "3", "5"]),
    ("B", ["(A)", "The answer is C.", r"\boxed{D}"]),
    ("even", ["The answer is odd.", r"\boxed{\text{never}}"]),
]


def pairs(table: list[tuple[str, list[str]]]) -> list[tuple[str, str]]:
    return [(gold, text) for gold, texts in table for text in texts]


def scores(table: list[tuple[str, list[str]]], **settings: Any) -> dict[tuple[str, str], float | None]:
    pytest.importorskip("math_verify")
    golds, texts = zip(*pairs(table), strict=True)
    score = score_function(made("math", seconds=60, **settings))  # not what a busy machine needs for one
    return dict(zip(pairs(table), score(completions=texts, answer=golds), strict=True))


@pytest.mark.case(59)
def test_right_and_wrong_answers() -> None:
    assert len(pairs(RIGHT)) + len(pairs(WRONG)) >= 150
    assert [pair for pair, score in scores(RIGHT).items() if score != 1.0] == []
    assert [pair for pair, score in scores(WRONG).items() if score != 0.0] == []


def test_a_pattern_says_what_the_answer_of_a_completion_is() -> None:
    table = [("7", ["[7] of 8", "no brackets: 7", "[8] of 7"]), ("5x-7", ["[5x-7]", "[5]"]), ("1/2", ["[it is 0.5]"])]
    assert [*scores(table, extract=r"\[(.*?)\]").values()] == [1.0, 0.0, 0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "gold",
    [
        "",
        "?",
        "+",
        "seventy-two",
        "two words here",
        "5x-7 junk",
        "5x-",
        r"\frac{1",
        "1/0",
        "5 or more",
        "0.333...",
        "(5x",
    ],
)
def test_what_is_no_mathematics(gold: str) -> None:
    pytest.importorskip("math_verify")
    assert read_expected(gold) == []


def test_plain_numbers_are_seen_without_the_library() -> None:
    assert all(map(is_plain_number, ["72", "-1,000.5", "$18.90", "50%", "72 apples", "(7)", "**7**"]))
    assert not any(map(is_plain_number, ["5x", "1/2", "1/0", "1,2", "", "seven"]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"the part of it is $\frac{1}{2}$", True),  # prose around marked LaTeX
        ("So it is this: #### 72", True),
        ("72 apples", True),
        ("x + 1", True),
        ("two words here", False),
        ("", False),
        ("1 + " * 400 + "1", False),
    ],
)
def test_what_cannot_be_read_is_known_without_the_library(text: str, expected: bool) -> None:
    assert may_be_readable(text) is expected
