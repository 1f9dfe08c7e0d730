"""The settings of the verb's schema by dotted name: types, paths, and the setting nearest to a name."""

import difflib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from rlhf_cli.rewards import Reward
from rlhf_cli.settings import IS_FUNCTION, IS_MODEL, IS_PATH, IS_PROSE, Settings, read_meanings
from rlhf_cli.verbs import cache_by_verb, current


@cache_by_verb
def fields() -> Mapping[str, FieldInfo]:
    """Every setting, group or value, under its dotted name (`optimizer.lr`), of all kinds of its group.

    A * stands for a name that the user chooses: `data.parts.*.path`.
    """
    return {name: field for name, field, _ in _all()}


_TYPES: Final = {
    "integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null",
    "array": "list", "object": "mapping",
}  # fmt: skip
_LIMITS: Final = {
    "minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below",
    "multipleOf": "a multiple of",
}  # fmt: skip


def meanings() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """The meanings of every value, by its key, each with the kinds of the group that give it this meaning.

    What holds more settings has no entry, nor has `kind`, which follows from the option, nor a part under a name that
    the user chooses.
    """
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, _, settings in _all():
        if not name.endswith(("kind", "*")) and "*" not in name:
            found[name][_meaning(name, settings)] += _kinds(settings)
    holders = {name.rpartition(".")[0] for name in found}
    return {
        name: {meaning: tuple(kinds) for meaning, kinds in each.items()}
        for name, each in found.items()
        if name not in holders
    }


def meaning(key: str, kind: str | None = None) -> str:
    """The meaning of a setting with this kind of its group, in one line; empty where it has none, or is no setting."""
    name = schema_name(key)
    owners = [settings for known, _, settings in _all() if known == name]
    fitting = [settings for settings in owners if not _kinds(settings) or kind in _kinds(settings)]
    return _meaning(name, (fitting or owners)[-1]) if owners else ""


def _meaning(name: str, settings: type[Settings]) -> str:
    return " ".join(read_meanings(settings).get(name.removesuffix(".*").rpartition(".")[2], "").split())


def lacks(key: str, kind: str) -> str:
    """Say that a group of this kind has no such setting, and which kinds have it."""
    group, _, name = key.rpartition(".")
    have = dict.fromkeys(one for kinds in meanings().get(schema_name(key), {}).values() for one in kinds)
    others = f"; {', '.join(have)} {'has' if len(have) == 1 else 'have'} it" if have else ""
    return f"{key}: {group} is {kind}, which has no {name}{others}"


def rule(key: str, kind: str | None = None) -> str:
    """The type and the range that a setting has with this kind of its group, in words: `number, above 0`."""
    name = schema_name(key)
    of_kind = (field for known, field, settings in _all() if known == name and kind in _kinds(settings))
    field = next(of_kind, fields()[name])
    annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    if name.endswith("*"):  # a value of the mapping
        annotation = get_args(field.annotation)[1]
    return _words(TypeAdapter(annotation).json_schema())


def _words(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_words, schema["anyOf"])))
    if "enum" in schema or "const" in schema:
        return "one of " + ", ".join(schema["enum"]) if "enum" in schema else str(schema["const"])
    kind = str(schema.get("type", "settings"))
    limits = [f"{word} {schema[name]:g}" for name, word in _LIMITS.items() if name in schema]
    return ", ".join([_TYPES.get(kind, kind), *limits])


@cache_by_verb
def _all() -> Sequence[tuple[str, FieldInfo, type[Settings]]]:
    """Every setting of the verb by its dotted name, once for each kind of its group."""
    return tuple(_walk(current().schema, ""))


def _kinds(settings: type[Settings]) -> tuple[str, ...]:
    """The kinds of a group that have these settings; none where the group has no kinds."""
    return get_args(settings.model_fields["kind"].annotation) if "kind" in settings.model_fields else ()


def _walk(settings: type[Settings], prefix: str) -> Iterator[tuple[str, FieldInfo, type[Settings]]]:
    for name, field in settings.model_fields.items():
        if (settings, name) == (Reward, "source"):  # its settings stand beside those of the group
            inner = prefix
        else:
            yield prefix + name, field, settings
            inner = f"{prefix}{name}."
        if get_origin(field.annotation) is dict:
            yield f"{inner}*", field, settings
            inner += "*."
        for part in _leaves(field.annotation):
            if isinstance(part, type) and issubclass(part, Settings):
                yield from _walk(part, inner)


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield the parts of a type: the members of unions, and the type and marks of Annotated."""
    if get_origin(annotation) is Annotated:
        yield from annotation.__metadata__
    parts = get_args(annotation)
    for part in parts:
        yield from _leaves(part)
    if not parts:
        yield annotation


@cache_by_verb
def _marks() -> Mapping[str, str]:
    """The keys that hold a path, each with its mark: IS_PATH, IS_MODEL or IS_FUNCTION."""
    marks = IS_PATH, IS_MODEL, IS_FUNCTION
    marked = {key: [m for m in (*f.metadata, *_leaves(f.annotation)) if m in marks] for key, f in fields().items()}
    return {key: mark[0] for key, mark in marked.items() if mark}


def holds_path(key: str) -> bool:
    """Whether the setting `key` names a file, a folder, a model or a function."""
    return schema_name(key) in _marks()


def takes_text(key: str) -> bool:
    """Whether the setting `key` may be a text of the user, or a list of them; a path is no such text."""
    return str in _types(schema_name(key)) and not holds_path(key)


def takes_text_or_number(key: str) -> bool:
    """Whether the setting `key` may be a text, and also a number or true and false."""
    return takes_text(key) and bool({int, float, bool} & _types(schema_name(key)))


def holds_prose(key: str) -> bool:
    """Whether the setting `key` is a text in which a line break may stand."""
    field = fields().get(schema_name(key))
    return field is not None and IS_PROSE in (*field.metadata, *_leaves(field.annotation))


def _types(name: str) -> frozenset[Any]:
    """The types that a setting may have; of a mapping, those of its values."""
    annotation = fields()[name].annotation if name in fields() else None
    leaves = _leaves(get_args(annotation)[1] if get_origin(annotation) is dict else annotation)
    return frozenset(leaf for leaf in leaves if isinstance(leaf, type))


def schema_name(key: str) -> str:
    """Return the name of a setting in `fields`: `data.parts.*.path` for `data.parts.web.path`."""
    if key in fields():
        return key
    names = key.split(".")
    starred = (known for known in fields() if "*" in known and known.count(".") == len(names) - 1)
    return next((known for known in starred if all(map(_fits, known.split("."), names))), key)


def _fits(known: str, name: str) -> bool:
    return known in ("*", name)


def make_absolute(key: str, value: str, base: Path) -> str:
    """Make the path `value` of setting `key` absolute, from `base`.

    A hub id, `module:function` and `package:...` stay as they are. But a module that is a file in `base` becomes that
    file, so that a run resumed from another folder finds it again.
    """
    path = os.path.abspath(base / os.path.expanduser(value))
    if value in ("", "???") or value.startswith("package:") or "${" in value:
        return value
    mark = _marks()[schema_name(key)]
    if mark == IS_FUNCTION:
        module, _, function = value.rpartition(":")
        if module.isidentifier() and os.path.isfile(base / f"{module}.py"):
            return f"{os.path.abspath(base / module)}.py:{function}"
        return path if module.endswith(".py") else value
    is_path = mark == IS_PATH or value.startswith(("./", "../", "/", "~")) or os.path.exists(path)
    return path if is_path else value


def make_paths_absolute(settings: Mapping[str, Any], base: Path, prefix: str = "") -> dict[str, Any]:
    """Copy nested settings with every path made absolute, from `base`."""

    def convert(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return make_paths_absolute(value, base, key + ".")
        return make_absolute(key, value, base) if holds_path(key) and isinstance(value, str) else value

    return {name: convert(f"{prefix}{name}", value) for name, value in settings.items()}


def find_nearest(name: str, names: Iterable[str]) -> str | None:
    """Find the one of `names` that is like the name; None without one.

    A name that ends alike comes first (`mdel.path`: `model.path`), then a whole name in another place (`model.dtype`:
    `dtype`), then any name that is like it as a whole or in its last part (`lr`: `optimizer.lr`).
    """
    name = name.lower()
    known, end = [key for key in names if "*" not in key], name.rpartition(".")[2]
    by_end = {key.rpartition(".")[2]: key for key in reversed(known)}
    alike = difflib.get_close_matches(name, [key for key in known if key.rpartition(".")[2] == end], n=1, cutoff=0.7)
    moved = [end] if end in known else []
    if close := alike or moved or difflib.get_close_matches(name, known, n=1, cutoff=0.7):
        return close[0]
    ends = difflib.get_close_matches(end, by_end, n=1, cutoff=0.7)
    return by_end[ends[0]] if ends else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean steps?`, or nothing."""
    near = find_nearest(name, names)
    return f"; did you mean {near}?" if near else ""
