r"""Read answers as mathematics with the library Math-Verify: a text that is an answer, or a text that contains one.

The library searches a text for anything readable: it finds 5 in `5x-7` and 2 in `(1, 2)`. Here an answer is first read
as a whole: as one number (with thousands, a fraction, a currency, per cent, units), or as one expression, in LaTeX or
typed. Only a text that is neither is searched.

A `read_` function returns a list, as the library does: the answer as sympy reads it and, last, as a text.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from rlhf_cli.rewards.notation import (
    NUMBER,
    find_closing_brace,
    is_prose,
    normalise_signs,
    simplify_latex,
    strip_marks,
    to_latex,
)

_SCALES: Final = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_LONGEST: Final = 1000
"""Characters of the longest expression that is read as a whole."""
_MARKS: Final = ("$", r"\(", r"\[", r"\boxed")
"""Texts that mark LaTeX."""
_CURRENCY: Final = re.compile(r"(?<![\\$\w])\$(?=-?\d[\d,]*(?:\.\d+)?[.,;:!?]?(?:\s+[A-Za-z]{2,}|\s*$|\s*\n))")
"""A dollar sign that is a currency in prose, and opens no LaTeX."""
_ANCHOR: Final = re.compile(r"(?i)(?:\banswer\b[^\n:=]{0,40}?(?:\bis\b|[:=])\s*[:=]?|####)[ \t]*([^\n]+)")


def read_whole(text: str) -> list[Any]:
    """Read a text that is one number or one expression; empty for any other text."""
    text = strip_marks(text)
    if (number := _read_number(text)) is not None:
        return number
    if not text or len(text) > _LONGEST or is_prose(text):
        return []
    if re.fullmatch(r"[A-Za-z]{4,}|(?i:yes|no|odd)", text):  # a word is a name, not a product of its letters
        text = rf"\text{{{text}}}"
    return _with_formula(_latex(to_latex(text)))


def read_search(text: str) -> list[Any]:
    """Search a text with the library; empty where it finds nothing."""
    from math_verify import parse

    text = _CURRENCY.sub("", normalise_signs(text))
    text = re.sub(r"\*\*|__|`", "", text)
    text = re.sub(r"(?<=:)(?=[-$.\d])|</?[a-z]+>", " ", text)
    text = re.sub(r"(?<![\w\\])\((-?[\d.]+)\)", r" \1 ", text)  # not f(7), whose argument is no answer
    answer: list[Any] = parse(text, parsing_timeout=None)
    return answer


def read_expected(text: str) -> list[Any]:
    """Read the right answer: as a whole, else the formula marked as LaTeX in it; empty where it is no mathematics.

    A solution that ends with `#### 72`, as those of GSM8K do, has the right answer 72.
    """
    text = text.rpartition("####")[2]
    answer = read_whole(text)
    if not answer and any(mark in text for mark in _MARKS):
        answer = _with_formula(read_search(text))
    return answer


def may_be_readable(text: str) -> bool:
    """Whether `read_expected` might read the text; False, without the library, for prose and for what is too long."""
    text = text.rpartition("####")[2]
    if any(mark in text for mark in _MARKS):
        return True
    text = strip_marks(text)
    is_number = NUMBER.fullmatch(simplify_latex(text)) is not None
    return is_number or bool(text and len(text) <= _LONGEST and not is_prose(text))


def read_answer(text: str) -> list[Any]:
    """Read the answer in a completion: at a mark (tag, box, "answer is"), else its last line, else by a search."""
    for candidate in _candidates(text):
        if answer := read_whole(candidate):
            return answer
    return read_search(text)


def read_part(text: str) -> list[Any]:
    """Read the part of a completion that `extract` chose: as a whole, else the answer in it."""
    return read_whole(text) or read_answer(text)


def surest_part(text: str) -> str:
    """The part of a completion where its answer is looked for first, as it stands."""
    return next(_candidates(text), text)


def is_plain_number(text: str) -> bool:
    """Whether a text is one number without a fraction. Such a text is always readable, and this test is quick."""
    match = NUMBER.fullmatch(simplify_latex(strip_marks(text.rpartition("####")[2])))
    return match is not None and len(text) < _LONGEST and not match["bottom"] and not match["denominator"]


def _candidates(text: str) -> Iterator[str]:
    """The parts of a text that may be the whole answer, the surest first."""
    text = normalise_signs(text)
    if tags := re.findall(r"<answer>(.*?)(?:</answer>|$)", text, re.DOTALL | re.IGNORECASE):
        yield from _inside(tags[-1])
    elif r"\boxed" in text:
        yield from _boxed(text)
    elif anchored := _ANCHOR.findall(text):
        yield from (anchored[-1], re.split(r"[.!?;](?:\s|$)|, (?=[a-z]{2,})|\s\((?=[A-Za-z]{3,})", anchored[-1])[0])
    else:
        lines = text.strip().splitlines()[-1:]
        yield from (line for line in lines if re.search(r"[\d\\=√π∞∅^]", line) or len(line.strip("().* ")) == 1)


def _inside(text: str) -> Iterator[str]:
    """The candidates in the text between <answer> tags: its box, the whole, the text after "answer is"."""
    yield from _boxed(text)
    yield text
    yield from reversed(_ANCHOR.findall(text))


def _boxed(text: str) -> Iterator[str]:
    """The content of the last box, unless several boxes are the answer together."""
    boxes = [*re.finditer(r"\\(?:f?boxed)\s*\{", text)]
    if not boxes:
        return
    end = find_closing_brace(text, boxes[-1].end())
    together = len(boxes) > 1 and re.fullmatch(
        r"[\s$]*(?:,|and|or|,\s*and|,\s*or)[\s$]*",
        text[find_closing_brace(text, boxes[-2].end()) + 1 : boxes[-1].start()],
    )
    if not together:
        yield text[boxes[-1].end() : end]


def _read_number(text: str) -> list[Any] | None:
    """Read a text that is one number; empty where it divides by zero, None where it is no number."""
    match = NUMBER.fullmatch(simplify_latex(text))
    if match is None:
        return None
    from math_verify import parse
    from sympy import Integer, Rational

    def integer(name: str) -> Any:
        return Integer(re.sub(r"\D", "", match[name]))

    sign = "-" if "-" in (match["sign"], match["after"]) else ""
    decimal = re.sub("^[.]", "0.", re.sub("[ ,_]", "", match["decimal"] or ""))
    tens = int(match["exponent"] or 0) + _SCALES.get(match["scale"] or "", 0)
    if decimal and not tens:
        answer: list[Any] = parse(f"{sign}{decimal}{'%' if match['percent'] else ''}", parsing_timeout=None)
        return answer
    below = match["bottom"] or match["denominator"]
    if below and not int(re.sub(r"\D", "", below)):
        return []
    if match["bottom"]:
        value = integer("whole") + integer("top") / integer("bottom")
    else:
        value = integer("numerator") / integer("denominator") if below else Rational(decimal)
    value *= Rational(10) ** tens * Rational(1, 100 if match["percent"] else 1)
    return [-value if sign else value, text]


def _latex(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    answer: list[Any] = parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None)
    return answer


def _with_formula(answer: list[Any]) -> list[Any]:
    """The answer where sympy could read it; empty where it is only a text."""
    return answer if any(not isinstance(part, str) for part in answer) else []
