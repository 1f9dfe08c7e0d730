r"""Read answers as mathematics, by the library Math-Verify: a text that is an answer as a whole, or one with an answer.

The library searches a text for what it can read, and so it finds 5 in `5x-7` and 2 in `(1, 2)`. Here an answer is read
as a whole where it can be: as one number (with thousands, a fraction, a currency, per cent, units), else as one
expression in LaTeX or as it is typed. Only what is neither is searched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from rlhf_cli.rewards.notation import NUMBER, bare, closing, is_prose, plain, softened, typed

_SCALES: Final = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_LONGEST: Final = 1000
"""Characters of the longest expression that is read as a whole."""
_CURRENCY: Final = re.compile(r"(?<![\\$\w])\$(?=-?\d[\d,]*(?:\.\d+)?[.,;:!?]?(?:\s+[A-Za-z]{2,}|\s*$|\s*\n))")
"""A dollar before an amount in prose, which is no LaTeX."""
_ANCHOR: Final = re.compile(r"(?i)(?:\banswer\b[^\n:=]{0,40}?(?:\bis\b|[:=])\s*[:=]?|####)[ \t]*([^\n]+)")


def read_whole(text: str) -> list[Any]:
    """Read a text that is one number or one expression: as sympy has it and, last, as a text; else empty."""
    text = bare(text)
    if (number := _read_number(text)) is not None:
        return number
    if not text or len(text) > _LONGEST or is_prose(text):
        return []
    if re.fullmatch(r"[A-Za-z]{4,}|(?i:yes|no|odd)", text):  # a word is a name, and no product of letters
        text = rf"\text{{{text}}}"
    return _with_formula(_latex(typed(text)))


def read_search(text: str) -> list[Any]:
    """Read what the library finds in a text; empty where there is nothing to read."""
    from math_verify import parse

    text = _CURRENCY.sub("", plain(text))
    text = re.sub(r"\*\*|__|`", "", text)
    text = re.sub(r"(?<=:)(?=[-$.\d])|</?[a-z]+>", " ", text)
    text = re.sub(r"(?<![\w\\])\((-?[\d.]+)\)", r" \1 ", text)  # not f(7), whose argument is no answer
    answer: list[Any] = parse(text, parsing_timeout=None)
    return answer


def read_expected(text: str) -> list[Any]:
    """Read the right answer: as a whole, else the formula that it marks as LaTeX; empty where it is no mathematics.

    Of a solution that ends with `#### 72`, as those of GSM8K do, that is the right answer.
    """
    text = text.rpartition("####")[2]
    answer = read_whole(text)
    if not answer and any(mark in text for mark in ("$", r"\(", r"\[", r"\boxed")):
        answer = _with_formula(read_search(text))
    return answer


def read_answer(text: str) -> list[Any]:
    """Read the answer in a completion: where it says that it stands, else as a whole, else what the library finds."""
    for candidate in _candidates(text):
        if answer := read_whole(candidate):
            return answer
    return read_search(text)


def read_part(text: str) -> list[Any]:
    """Read the part of a completion that is the answer: as a whole, else what is found in it."""
    return read_whole(text) or read_answer(text)


def is_plain_number(text: str) -> bool:
    """Whether a text is one number, which is quick to see and always readable."""
    match = NUMBER.fullmatch(softened(bare(text.rpartition("####")[2])))
    return match is not None and len(text) < _LONGEST and not match["bottom"] and not match["denominator"]


def _candidates(text: str) -> Iterator[str]:
    """Texts that may be the answer as a whole, the surest first."""
    text = plain(text)
    if tags := re.findall(r"<answer>(.*?)(?:</answer>|$)", text, re.DOTALL | re.IGNORECASE):
        yield from _inside(tags[-1])
    elif r"\boxed" in text:
        yield from _boxed(text)
    elif anchored := _ANCHOR.findall(text):
        yield from (anchored[-1], re.split(r"[.!?;](?:\s|$)|, (?=[a-z]{2,})", anchored[-1])[0])
    else:
        lines = text.strip().splitlines()[-1:]
        yield from (line for line in lines if re.search(r"[\d\\=√π∞∅^]", line) or len(line.strip("().* ")) == 1)


def _inside(text: str) -> Iterator[str]:
    """The candidates in the text between tags: its box, what stands behind an anchor, the whole."""
    yield from _boxed(text)
    yield text
    yield from reversed(_ANCHOR.findall(text))


def _boxed(text: str) -> Iterator[str]:
    """The content of the last box, unless it is one of several that are the answer together."""
    boxes = [*re.finditer(r"\\(?:f?boxed)\s*\{", text)]
    if not boxes:
        return
    end = closing(text, boxes[-1].end())
    together = len(boxes) > 1 and re.fullmatch(
        r"[\s$]*(?:,|and|or|,\s*and|,\s*or)[\s$]*",
        text[closing(text, boxes[-2].end()) + 1 : boxes[-1].start()],
    )
    if not together:
        yield text[boxes[-1].end() : end]


def _read_number(text: str) -> list[Any] | None:
    """The number that the whole text is; empty where it cannot be computed, None where it is none."""
    match = NUMBER.fullmatch(softened(text))
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
        found: list[Any] = parse(f"{sign}{decimal}{'%' if match['percent'] else ''}", parsing_timeout=None)
        return found
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

    found: list[Any] = parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None)
    return found


def _with_formula(answer: list[Any]) -> list[Any]:
    """The answer, where one of its readings is more than a text."""
    return answer if any(not isinstance(part, str) for part in answer) else []
