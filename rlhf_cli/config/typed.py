"""Refuse values that YAML or hydra's grammar would read as something else than was typed.

A setting that takes texts as well as numbers cannot tell the version 1.10 from the number 1.1. For such a setting a
number, true, false and null must be spelled as in JSON. Any other spelling is refused; the error has both spellings.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from rlhf_cli.config.keys import holds_prose, takes_text, takes_text_or_number
from rlhf_cli.errors import UserError

_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_UNESCAPED: Final = re.compile(r"\\[\\()\[\]{}:=, \t]")
"""Characters whose backslash hydra's grammar removes from text without quotes."""
_BREAK: Final = re.compile(r"(?<!\\)\\([nt])(?![a-z])")
"""A line break or a tab; before a small letter it may be a command of TeX, like \\nabla or \\times."""
_UNCLEAR: Final = re.compile(r"(?<!\\)\\[nt][a-z]\w*")
"""A line break or a tab before a word, or a word with a backslash."""
_CHARACTERS: Final = {"n": "\n", "t": "\t"}


def refuse_unclear(key: str, value: Any, typed: str) -> None:
    """Raise UserError where `value`, read from a scalar without quotes, may also be meant as the text `typed`."""
    spelled = json.dumps(value)
    if takes_text_or_number(key) and spelled != (typed.lower() if isinstance(value, bool) else typed):
        text = f"the text '{typed}' or {_kind(value)} {spelled}" if typed else "nothing, or null"
        raise UserError(f"{key}: {typed or 'no value'} may be {text}", fix=f"write '{typed}' in quotes, or {spelled}")


def refuse_two_characters(key: str, text: str) -> None:
    """Raise UserError where a line break is meant: `\\n` in a file's text without quotes or in single ones."""
    if holds_prose(key) and (escape := _BREAK.search(text)):
        what = f"{key}: {escape.group()} stays two characters here"
        raise UserError(what, fix=f'put the text in double quotes: "...{escape.group()}..."')


def insert_breaks(key: str, typed: str) -> str:
    r"""Turn `\n` and `\t` in the value of an override into a line break and a tab, if the setting holds prose.

    Raises UserError where a small letter follows: it may be a command of TeX.
    """
    if not holds_prose(key):
        return typed
    if unclear := _UNCLEAR.search(typed):
        name = "a line break" if unclear.group()[1] == "n" else "a tab"
        what = f"{key}: {unclear.group()} may be {name} and {unclear.group()[2:]}, or a word with a backslash"
        raise UserError(what, fix=f"set {key} in a YAML file, in double quotes (a line break) or in single ones")
    return _BREAK.sub(lambda escape: _CHARACTERS[escape.group(1)], typed)


def refuse_reinterpreted(key: str, typed: str, values: Iterable[Any]) -> None:
    """Raise UserError where hydra's grammar read other `values` from an override, or its list, than were typed."""
    unquoted = _QUOTED.sub(" ", typed)
    words = re.split(r"[\s,:(){}\[\]]+", unquoted)
    lost = _UNESCAPED.search(unquoted)
    for name, value in _leaves(key, values):
        if isinstance(value, str):
            if lost and takes_text(name):
                raise UserError(f"{name}: {lost.group()} would lose its backslash", fix="put each text in quotes")
        elif takes_text_or_number(name):
            spelled = json.dumps(value)
            if spelled not in (map(str.lower, words) if isinstance(value, bool) else words):
                what = f"{name}: a part of {typed} may be a text or {_kind(value)} {spelled}"
                raise UserError(what, fix=f"put a text in quotes, or write {spelled}")


def _leaves(key: str, values: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for value in values:
        if isinstance(value, Mapping):
            for name, part in value.items():
                yield from _leaves(f"{key}.{name}", [part])
        elif isinstance(value, list):
            yield from _leaves(key, value)
        else:
            yield key, value


def _kind(value: Any) -> str:
    return "the number" if isinstance(value, int | float) and not isinstance(value, bool) else "the value"
