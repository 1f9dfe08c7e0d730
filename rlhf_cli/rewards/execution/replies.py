"""The reply to a request: the scores that a function returned, or what is wrong with them, or how the function failed.

worker.py loads this file as well, so it imports only the standard library.
"""

import importlib
import itertools
import os
import sys
import traceback
from typing import Any, Final

LONGEST: Final = 300
"""Characters of an exception's message that a reply holds, at most."""
_STDERR: Final = sys.stderr
"""Bound here, since a function may replace it."""
_MACHINERY: Final = (os.path.dirname(__file__), importlib.__file__, "<frozen")
"""Beginnings of the files that are no place for a user to look at."""


def as_scores(result: Any, count: int) -> dict[str, Any]:
    """The reply for a function's result: `count` scores, each a float or None, or what is wrong with it."""
    if hasattr(result, "tolist"):  # an array or a tensor
        result = result.tolist()
    if not isinstance(result, list | tuple):
        return {"wrong": f"returned {_kind(result)}, not a list of {_plural(count, 'score')}"}
    values = [*itertools.islice(result, count + 1)]  # a subclass of list may report another length
    if len(result) != count or len(values) != count:
        length = len(result) if len(result) != count else f"{len(values)}{'+' if len(values) > count else ''}"
        return {"wrong": f"returned {_plural(length, 'score')} for {_plural(count, 'completion')}"}
    scores = []
    for number, value in enumerate(values, start=1):
        value = value.item() if getattr(value, "ndim", None) == 0 else value  # a number of numpy or torch
        if not isinstance(value, int | float | None):
            return {"wrong": f"returned {_kind(value)} as score {number} of {count}, not a number or None"}
        scores.append(None if value is None else _as_float(value))
    return {"scores": scores}


def _plural(number: int | str, noun: str) -> str:
    """The number and the noun, as rlhf_cli.plural writes them, which is not there to import."""
    return f"{number} {noun}" if number in (1, "1") else f"{number} {noun}s"


def _kind(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def as_failure(error: BaseException, file: str) -> dict[str, Any]:
    """The reply after an exception; after `base.Unanswered` it also says when to ask again."""
    try:
        if hasattr(error, "retry_after_s"):
            return {"failure": _shorten(str(error)), "retry_after_s": error.retry_after_s}
        return {"failure": _describe(error, file)}
    except BaseException:  # its own __str__ fails, for one, by whatever it raises; the log has the traceback
        return {"failure": f"raised {type(error).__name__} (its message cannot be read)"}


def _shorten(text: str) -> str:
    line = " ".join(text.split()).encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair is no text
    return f"{line[:LONGEST]}…" if len(line) > LONGEST else line


def _describe(error: BaseException, file: str) -> str:
    """Describe the exception in one line, with the place in the user's file; the whole traceback goes to the log."""
    traceback.print_exception(error, file=_STDERR)
    if isinstance(error, SystemExit):
        what = f"called sys.exit({'' if error.code is None else repr(error.code)})"
    elif hasattr(error, "fix"):  # errors.UserError, whose line is meant for the user
        return _shorten(str(error))
    else:
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        what = f"raised {type(error).__name__}: {' '.join(message.split())}".removesuffix(": ")
    place = _place(error, file)
    return _shorten(what) + (f" at {place}" if place else "")


def _place(error: BaseException, file: str) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.basename(error.filename)}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if not frame.filename.startswith(_MACHINERY)]
    own = [frame for frame in outside if frame.filename == file] or outside
    return f"{os.path.basename(own[-1].filename)}:{own[-1].lineno}" if own else ""
