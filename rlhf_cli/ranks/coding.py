"""A message as bytes: JSON with the tensors behind it. No pickle: the bytes name types of a fixed list alone.

The columns of a prompt's row stay behind: they may be anything, and no shard reads them.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

import torch
from pydantic import BaseModel, TypeAdapter
from torch import Tensor

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.functional.truncation import Truncation
from rlhf_cli.ranks.gradient import Sums, UnitGradient
from rlhf_cli.ranks.messages import Answer, Failure, Opening, Order
from rlhf_cli.types import Advantages, Distance, Exact, KeptSets, Prompt, PromptBatch, PromptRow, Rollout, Scored

_TYPES: Final = {
    kind.__name__: kind
    for kind in (
        Opening, Order, Answer, Failure, PromptBatch, Prompt, Sampling, Truncation, Rollout, KeptSets, Distance, Exact,
        Scored, Advantages, UnitGradient, Sums,
    )
}  # fmt: skip
_DTYPES: Final = {
    str(dtype): dtype
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.bool)
}
_ALGORITHM: Final[TypeAdapter[Any]] = TypeAdapter(Algorithm)
_ROW: Final = PromptRow("", {}, "")
_LENGTH: Final = 8
"""Bytes of the number that the bytes begin with: the length of the JSON."""


def pack(message: object) -> bytearray:
    """The bytes of a message; raises TypeError for what is on no list."""
    tensors: list[bytes] = []
    text = json.dumps(_encode(message, tensors)).encode()
    return bytearray(b"".join((len(text).to_bytes(_LENGTH, "little"), text, *tensors)))


def unpack(content: bytearray, device: torch.device) -> Any:
    """The message of these bytes, its tensors on `device`."""
    view = memoryview(content)
    start = _LENGTH + int.from_bytes(view[:_LENGTH], "little")
    return _Decoder(view[start:], device).decode(json.loads(bytes(view[_LENGTH:start])))


def _encode(value: Any, tensors: list[bytes]) -> Any:
    """The value as JSON data: a list for a list, [kind, ...] in an object for anything that JSON has no form for."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_encode(one, tensors) for one in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(one, tensors) for one in value]}
    if isinstance(value, Mapping):
        return {"dict": {key: _encode(one, tensors) for key, one in value.items()}}
    if isinstance(value, Tensor):
        # a view without what it is a view of
        content = value.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        tensors.append(content)
        return {"tensor": [str(value.dtype), [*value.shape], len(content)]}
    if isinstance(value, PromptRow):
        return {"row": None}
    if isinstance(value, BaseModel):
        return {"algorithm": value.model_dump(mode="json")}
    if is_dataclass(value) and type(value).__name__ in _TYPES:
        return {type(value).__name__: [_encode(getattr(value, one.name), tensors) for one in fields(value)]}
    raise TypeError(f"a message between processes has no place for {type(value).__name__}")


class _Decoder:
    """Reads the tensors one after the other, in the order in which they were encoded."""

    def __init__(self, content: memoryview, device: torch.device) -> None:
        self._content, self._device, self._start = content, device, 0

    def decode(self, value: Any) -> Any:
        """The value that was encoded."""
        if isinstance(value, list):
            return [self.decode(one) for one in value]
        if not isinstance(value, dict):
            return value
        [(kind, inner)] = value.items()
        if kind == "tuple":
            return tuple(self.decode(one) for one in inner)
        if kind == "dict":
            return {key: self.decode(one) for key, one in inner.items()}
        if kind == "tensor":
            return self._tensor(*inner)
        if kind == "row":
            return _ROW
        if kind == "algorithm":
            return _ALGORITHM.validate_python(inner)
        return _TYPES[kind](*(self.decode(one) for one in inner))

    def _tensor(self, dtype: str, shape: list[int], length: int) -> Tensor:
        """The next tensor."""
        content = bytearray(self._content[self._start : self._start + length])
        self._start += length
        flat = torch.frombuffer(content, dtype=_DTYPES[dtype]) if content else torch.empty(0, dtype=_DTYPES[dtype])
        return flat.reshape(shape).to(self._device)
