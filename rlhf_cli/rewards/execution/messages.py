"""The messages of a reward's process, fully checked: text that a function writes to their pipe is never a score."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from rlhf_cli.settings import READ_STRICTLY

GARBAGE: Final = "wrote something else than its scores to the pipe of its answers"


class CallFailed(Exception):
    """The function gave no answer this time. The message continues a sentence that begins with the function's name.

    `is_batch_wide`: no single completion is the cause, so asking for them one by one would not help.
    `retry_after_s`: how long to wait before another try; None: another try would not help.
    """

    def __init__(self, what: str, *, is_batch_wide: bool = False, retry_after_s: float | None = 0.0) -> None:
        self.is_batch_wide, self.retry_after_s = is_batch_wide, retry_after_s
        super().__init__(what)


class Garbled(CallFailed):
    """The process did not send the expected message; later messages cannot be trusted either."""

    def __init__(self) -> None:
        super().__init__(GARBAGE)


class InvalidFunction(Exception):
    """The function is unusable: no other try and no other completion would help. `fix` tells the user what would."""

    def __init__(self, what: str, fix: str = "return a list with one number (or None) for each completion") -> None:
        self.fix = fix
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class FunctionInfo:
    """A function's file and arguments, known once it is imported."""

    __pydantic_config__ = READ_STRICTLY

    sha256: str | None
    """Hash of the user's file and its imports, or of a reward model; None for another built-in function."""
    takes: list[str] | None
    """The arguments that it takes by name; None: any."""
    needs: list[str]
    """The arguments without a default."""


@dataclass(frozen=True, slots=True)
class _Scores:
    __pydantic_config__ = READ_STRICTLY

    scores: list[float | None]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Invalid:
    __pydantic_config__ = READ_STRICTLY

    wrong: str


@dataclass(frozen=True, slots=True)
class _Failed:
    __pydantic_config__ = READ_STRICTLY

    failure: str
    retry_after_s: float | None = 0.0


_INFO: Final = TypeAdapter(FunctionInfo)
_SCORES: Final = TypeAdapter(_Scores)
_INVALID: Final = TypeAdapter(_Invalid)
_FAILED: Final = TypeAdapter(_Failed)
_Message = TypeVar("_Message")


def read_message(line: bytes, number: int) -> dict[str, Any]:
    """Return the answer to request `number`, without the number.

    Raises CallFailed or InvalidFunction where the answer reports one, and Garbled for anything but an answer.
    """
    try:
        reply: Any = json.loads(line)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict) or reply.pop("number", None) != number:
        raise Garbled
    if "wrong" in reply:
        raise InvalidFunction(_checked(_INVALID, reply).wrong)
    if "failure" in reply:
        failed = _checked(_FAILED, reply)
        is_batch_wide = "retry_after_s" in reply
        raise CallFailed(failed.failure, is_batch_wide=is_batch_wide, retry_after_s=failed.retry_after_s)
    return reply


def as_info(reply: dict[str, Any]) -> FunctionInfo:
    """Return the first message of a process; raises Garbled for any other."""
    return _checked(_INFO, reply)


def as_scores(reply: dict[str, Any], count: int) -> tuple[list[float | None], list[str]]:
    """Return the `count` scores of an answer, and a built-in function's notes; raises Garbled for anything else."""
    answer = _checked(_SCORES, reply)
    if len(answer.scores) != count:
        raise Garbled
    return answer.scores, answer.notes


def _checked(kind: TypeAdapter[_Message], reply: Any) -> _Message:
    try:
        return kind.validate_json(json.dumps(reply))  # as from a file: strict, and no dict for a class
    except ValidationError:
        raise Garbled from None
