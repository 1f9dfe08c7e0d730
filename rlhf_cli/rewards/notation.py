"""Turn the ways to write an answer into one: signs, units, marks around it, and expressions that are typed."""

import re
from collections.abc import Callable
from typing import Final
from unicodedata import normalize

_INTEGER: Final = r"(?:\d{1,3}(?:[ ,_]\d{3})+(?!\d)|\d+)"
_SHORT_UNIT: Final = r"(?:[munk]?m|cm|dm|[mk]g|lbs?|oz|ft|in|yd|mi|mph|hrs?|m?s|min|m[lL]|k?W|[kM]?Hz|h)"
_WORD_UNIT: Final = r"(?!and\b|or\b|to\b|plus\b|minus\b|times\b)[A-Za-z]{3,}(?:[\s/-]+[A-Za-z]+){0,4}"
_COMMON_UNIT: Final = r"(?:[mck]m|[mk]g|lbs?|oz|ft|in|yd|mi|mph|hrs?|ms|min|m[lL]|k?W|[kM]?Hz|[ap]\.?m\.?)"
NUMBER: Final = re.compile(
    rf"""
    (?P<sign>[-+]?)\s*(?:[$€£¥₹]\s*(?P<after>-?))?
    (?: (?P<whole>{_INTEGER})\s+(?P<top>[1-9]\d*)\s*/\s*(?P<bottom>\d+)
      | (?P<numerator>{_INTEGER})\s*/\s*(?P<denominator>{_INTEGER})
      | (?P<decimal>{_INTEGER}(?:\.\d+)?|\.\d+)(?:[eE](?P<exponent>[-+]?\d{{1,3}}))? )
    (?:\s*(?P<scale>hundred|thousand|million|billion|trillion)\b)?
    (?P<percent>\s*(?:%|percent\b|per\ cent\b|pct\b))?
    (?: \s*°\s*[CF]?
      | \s*‹[^‹›]*›(?:\^\{{?[23]\}}?|[²³])?
      | \s*{_COMMON_UNIT}(?:\^\{{?[23]\}}?|[²³])?(?:\s*/\s*{_SHORT_UNIT}(?:\^\{{?[23]\}}?|[²³])?)?
      | \s*[$€£¥₹]
      | \s+{_WORD_UNIT} )?
    """,
    re.VERBOSE,
)
_FUNCTIONS: Final = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln|log|exp|pi|gcd|lcm|max|min|mod"
_TYPED: Final[tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]] = (
    (r"\*\*", "^"),
    (r"\^\(([^()]*)\)", r"^{\1}"),
    (r"\^(-\w+)", r"^{\1}"),
    ("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda match: "^{" + match[0].translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) + "}"),
    (r"(?:√|(?<![\\A-Za-z])sqrt)\s*(?:\(([^()]*)\)|(\w+))", lambda match: rf"\sqrt{{{match[1] or match[2]}}}"),
    (r"(?<![\\A-Za-z])(?:infinity|inf|oo)(?![A-Za-z])|∞", r"\\infty "),
    (rf"(?<![\\A-Za-z])({_FUNCTIONS})(?![A-Za-z])", r"\\\1 "),
    (r"(?<=\s)in(?=[\s(\[{])|∈", r"\\in "),
    (r"<=|≤", r"\\le "),
    (r">=|≥", r"\\ge "),
    (r"!=|≠", r"\\ne "),
    (r"==", "="),
    (r"°", r"^\\circ "),
    (r"∪", r"\\cup "),
    (r"∩", r"\\cap "),
    (r"∅", r"\\emptyset "),
    (r"÷", r"\\div "),
    (r"·", r"\\cdot "),
    (r"±", r"\\pm "),
)
"""Pairs: a pattern of a typed expression, and its LaTeX."""
_COMMON: Final = "it|is|so|we|of|to|at|by|as|if|be|an|he|my|the|are|was|has|get|got|for|not|but|its|can|you|she|all|sum"
"""Short words that are hardly a product of letters."""
_TEXT: Final = r"\\(?:text|mathrm|textrm|mbox|textbf|mathbf)\s*\{([^{}]*)\}"


def normalise_signs(text: str) -> str:
    """Write every minus, space and fraction in one way, and unescape dollar and per cent signs."""
    text = re.sub("[\N{MINUS SIGN}\N{EN DASH}]", "-", text).replace("\N{NO-BREAK SPACE}", " ")
    text = re.sub(r"(?<!\^)[¼-¾⅐-⅞]", lambda match: f" {normalize('NFKC', match[0])}".replace("⁄", "/"), text)
    return re.sub(r"\\([$%])", r"\1", text)


def strip_marks(text: str) -> str:
    """Strip the marks around an answer: Markdown, LaTeX's delimiters, a box, a period, round brackets."""
    text, before = normalise_signs(text), ""
    while text != before:
        before = text
        text = re.sub(r"(?<!\.)\.$", "", text.strip().strip("`")).strip()
        for left, right in (("**", "**"), ("__", "__"), ("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
            inner = text[len(left) : -len(right)]
            if len(text) > len(left + right) and text.startswith(left) and text.endswith(right) and left not in inner:
                text = inner
        box = re.match(r"\\boxed\s*\{", text)
        if box and find_closing_brace(text, box.end()) == len(text) - 1:
            text = text[box.end() : -1]
        if re.fullmatch(r"\([^(),\n]*\)", text):
            text = text[1:-1]
    return text


def simplify_latex(text: str) -> str:
    """Write LaTeX's numbers as they are typed, and its units as ‹unit›."""
    text = re.sub(_TEXT, r"‹\1›", text.replace("{,}", ",").replace(r"\!", ""))
    text = re.sub(r"\\[,;: ]|~", " ", re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "°", text))
    return re.sub(r"\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}", r" \1/\2 ", text).strip()


def to_latex(text: str) -> str:
    """Write a typed expression in LaTeX; LaTeX stays as it is."""
    for pattern, replacement in _TYPED:
        text = re.sub(pattern, replacement, text)
    return text


def find_closing_brace(text: str, start: int) -> int:
    """Find the brace that closes the one before `start`; the text's end where there is none."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return place
    return len(text)


def is_prose(text: str) -> bool:
    """Whether a text is prose: a common word, two of three letters, one of four beside something, one in brackets."""
    rest = re.sub(
        rf"{_TEXT}|\\(?:begin|end)\{{\w+\}}|\\[A-Za-z]+|(?<![A-Za-z])(?:{_FUNCTIONS}|sqrt|infinity|and|or)(?![A-Za-z])",
        " ",
        text,
    )
    words = re.findall(r"(?<![A-Za-z])[A-Za-z]{3,}(?![A-Za-z])", rest)
    beside = re.search(r"(?:^|[\s-])[A-Za-z]{4,}(?:[\s:,-]|$)", rest)
    common = re.search(rf"(?i)(?:^|\s)(?:{_COMMON})(?:\s|$)", rest)
    remark = re.search(r"\d\s+\([A-Za-z]{3,}", rest)
    return bool(common or remark) or len(words) > 1 or bool(beside and not re.fullmatch(r"[A-Za-z]+", text))
