"""The base of all settings: frozen, closed, strict. Types, ranges and meanings are in Python, values in YAML."""

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

READ_STRICTLY: Final = ConfigDict(extra="forbid", strict=True)
"""`__pydantic_config__` of a dataclass that is read from a file: it refuses unknown keys and values of another type."""


class Settings(BaseModel):
    """A frozen group of settings that refuses unknown keys and values of the wrong type."""

    # defer_build: of a hundred kinds of settings, a command validates a few
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    @field_validator("*")
    @classmethod
    def _refuse_unusable(cls, value: Any) -> Any:
        """Refuse values that the libraries cannot take: whole numbers beyond 64 bits, texts with a NUL."""
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, int) and not -(2**63) <= one < 2**63:
                raise ValueError("must fit into 64 bits")
            if isinstance(one, str) and "\0" in one:
                raise ValueError("must hold no NUL character")
        return value


@cache
def read_meanings(settings: type[Settings]) -> Mapping[str, str]:
    """Read the meaning of each field that has one from the source: the docstring below the field.

    pydantic could keep it at the field (`use_attribute_docstrings`). But reading the source of all settings takes a
    third of their import, and only help and a few errors ask for meanings.
    """
    meanings: dict[str, str] = {}
    for base in reversed(settings.__mro__):
        for field, text in pairwise(_definitions(base.__module__).get(base.__name__, ())):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(meaning))):
                    meanings[name] = inspect.cleandoc(meaning)
    return {name: meaning for name, meaning in meanings.items() if name in settings.model_fields}


@cache
def _definitions(module: str) -> Mapping[str, Sequence[ast.stmt]]:
    """The statements of each class of a module of ours."""
    if not module.startswith(__package__):
        return {}
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}


def flatten(settings: Mapping[str, Any], prefix: str = "", *, with_empty: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield every value of nested settings with its dotted key; `with_empty`, also mappings that are empty."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and (value or not with_empty):
            yield from flatten(value, f"{prefix}{name}.", with_empty=with_empty)
        else:
            yield f"{prefix}{name}", value


def as_text(value: Any) -> str:
    """The value of a setting as a person reads it: a text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_tuple(value: Any) -> Any:
    """Turn a list of YAML into the tuple that a frozen setting holds."""
    return tuple(value) if isinstance(value, list) else value


Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A number that is neither infinite nor NaN."""

Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
"""A list of names in YAML."""

IS_FREE: Final = "a resumed run may change it without being asked"

_T = TypeVar("_T")
Free = Annotated[_T, IS_FREE]
"""Marks a setting, with all settings below it, that a resumed run may change; of these, `steps` alone (the length of
its schedules) changes what it learns from there on."""

IS_PATH: Final = "a path of the user: relative to the file that holds it, or to the working directory"
IS_MODEL: Final = "a hub id, or a path as above"
IS_FUNCTION: Final = "module:function, or a path as above, a colon and a function's name"
IS_PROSE: Final = "a text in which a line break may stand: on the command line it is written \\n"

FilePath = Annotated[str, Field(min_length=1), IS_PATH]
"""A file or folder; `package:NAME/FILE` names a file inside an installed Python package."""

ModelPath = Annotated[str, Field(min_length=1), IS_MODEL]
"""A model: hub id, folder, or `package:NAME/FILE.gguf`."""

HubPath = Annotated[str, Field(min_length=1), IS_MODEL]
"""A data set: hub id, or a folder."""


def _function(value: str) -> str:
    module, _, name = value.rpartition(":")
    if not module or not name.isidentifier():
        raise ValueError("must be file.py:function or module:function")
    if "/" in module and not module.endswith(".py"):
        raise ValueError("the file must end in .py")
    return value


FunctionPath = Annotated[str, AfterValidator(_function), IS_FUNCTION]
"""A Python function: `file.py:function`, or `module:function` of an importable module."""


_UNITS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}


_TIME = Annotated[float, Field(gt=0)] | Annotated[str, Field(pattern=r"^(\d+(\.\d+)?[dhms])+$|^(\d+-)?\d+:\d\d:\d\d$")]
"""A time in YAML."""


def _seconds(value: Any) -> Any:
    """Convert a time to seconds: 1h30m, 1.5h, or as schedulers write it 1:30:00 and 1-12:00:00."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) >= 2**63 else float(value)
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"(\d+(\.\d+)?[dhms])+", value):
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(.)", value))
    if clock := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", value):
        return sum(float(n or 0) * unit for n, unit in zip(clock.groups(), _UNITS.values(), strict=True))
    raise ValueError("write seconds, 1h30m or 1:30:00")


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_seconds, json_schema_input_type=_TIME)]
"""A time: seconds, 1h30m or 1:30:00."""
