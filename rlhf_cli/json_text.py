"""Read the JSON of users and other programs: a text that cannot be read is refused in plain words, not in Python's."""

import json
import re
from typing import Any, Final

_PLAIN: Final = json.JSONDecoder()
_LONG: Final = re.compile(r"\d{4301,}")
"""A number of more digits than Python reads."""


def from_json(text: str | bytes, decoder: json.JSONDecoder = _PLAIN) -> Any:
    """Decode a JSON text; raises ValueError with what it `is`, as `not JSON: Expecting value at column 1`."""
    try:
        read = text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError as error:
        raise ValueError("not JSON: its bytes are no UTF-8") from error
    try:
        return decoder.decode(read)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in read.strip() else ""
        raise ValueError(f"not JSON: {error.msg} at {line}column {error.colno}") from error
    except (RecursionError, ValueError) as error:  # the second: too many digits, or what the decoder refuses
        raise ValueError(f"not readable as JSON: {why_unreadable(error, read)}") from error


def why_unreadable(error: Exception, text: str) -> str:
    """The reason for which Python reads no value from a text, where the text has too many digits or levels."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    long = _LONG.search(text)
    return f"a number of {len(long[0]):,} digits" if long else str(error)
