"""The messages of a reward's process, fully checked: text that a function writes to their pipe is never a score."""

from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter, ValidationError

from rlhf_cli.settings import READ_STRICTLY


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
        super().__init__("wrote something else than its scores to the pipe of its answers")


class InvalidFunction(Exception):
    """The function is unusable: no other try and no other completion would help. `fix` tells the user what would."""

    def __init__(self, what: str, fix: str = "return a list with one number (or None) for each completion") -> None:
        self.fix = fix
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class _Answer:
    """The answer to request `number`."""

    __pydantic_config__ = READ_STRICTLY

    number: int


@dataclass(frozen=True, slots=True)
class FunctionInfo(_Answer):
    """A function's file and arguments, known once it is imported: the first message of a process."""

    sha256: str | None
    """Hash of the user's file and its imports, or of a reward model; None for another built-in function."""
    takes: list[str] | None
    """The arguments that it takes by name; None: any."""
    needs: list[str]
    """The arguments without a default."""


@dataclass(frozen=True, slots=True)
class FunctionScores(_Answer):
    """The scores of a call, and notes of a built-in function on the texts."""

    scores: list[float | None]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Invalid(_Answer):
    wrong: str


@dataclass(frozen=True, slots=True)
class _Failed(_Answer):
    failure: str


@dataclass(frozen=True, slots=True)
class _Unanswered(_Answer):
    failure: str
    retry_after_s: float | None


_Message = FunctionInfo | FunctionScores | _Invalid | _Failed | _Unanswered
_MESSAGE: Final[TypeAdapter[_Message]] = TypeAdapter(_Message)


def read_message(line: bytes, number: int) -> FunctionInfo | FunctionScores:
    """Return the answer to request `number`.

    Raises CallFailed or InvalidFunction where the answer reports one, and Garbled for anything but an answer.
    """
    try:
        message = _MESSAGE.validate_json(line)
    except ValidationError:
        raise Garbled from None
    if message.number != number:
        raise Garbled
    if isinstance(message, _Invalid):
        raise InvalidFunction(message.wrong)
    if isinstance(message, _Failed):
        raise CallFailed(message.failure)
    if isinstance(message, _Unanswered):
        raise CallFailed(message.failure, is_batch_wide=True, retry_after_s=message.retry_after_s)
    return message
