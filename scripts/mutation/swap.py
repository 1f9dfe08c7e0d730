"""Put the functions of a mutant into the place of those of its module, which others have imported already."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any


def swap_functions(module: ModuleType, source: str) -> None:
    """Give the functions of the module, and the methods of its classes, the code that they have in `source`.

    Raises ValueError where a function cannot have it.
    """
    fresh = {name: value for name, value in vars(module).items() if name.startswith("__")}
    exec(compile(source, str(module.__file__), "exec", dont_inherit=True), fresh)
    for name, new in fresh.items():
        old = vars(module).get(name)
        if getattr(new, "__module__", None) != module.__name__ or old is None:
            continue
        if not isinstance(new, type):
            _swap(old, new)
        elif isinstance(old, type):
            for attribute, value in list(vars(new).items()):  # a model that is asked for one may build others
                _swap(vars(old).get(attribute), value)


def _swap(old: Any, new: Any) -> None:
    """Give the functions behind an object the code of those behind another."""
    if clear := getattr(old, "cache_clear", None):
        clear()
    for before, after in zip(_functions(old), _functions(new), strict=True):
        before.__code__, before.__defaults__ = after.__code__, after.__defaults__
        before.__kwdefaults__ = after.__kwdefaults__


def _functions(value: Any) -> list[FunctionType]:
    """The functions that a method, a property or a decorated function consists of."""
    if isinstance(value, FunctionType):
        wrapped: Callable[..., Any] | None = getattr(value, "__wrapped__", None)
        return [value] if wrapped is None else _functions(wrapped)
    if isinstance(value, property):
        return [one for part in (value.fget, value.fset) for one in _functions(part)]
    if isinstance(value, classmethod | staticmethod):
        return _functions(value.__func__)
    inner = getattr(value, "__wrapped__", None)
    return _functions(inner) if inner is not None else []
