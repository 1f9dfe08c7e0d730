"""Describe the mistakes in a config in plain lines: the file and line, the key, the rule, and the value."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rlhf_cli.config.files import read_file
from rlhf_cli.config.foreign import unknown_setting
from rlhf_cli.config.keys import did_you_mean, fields, lacks, meaning, schema_name
from rlhf_cli.config.options import PRESET, default_option, groups, options, preset_path
from rlhf_cli.errors import UserError
from rlhf_cli.settings import flatten
from rlhf_cli.verbs import C, Verb

_PLAIN = {  # pydantic's error type -> the rule in plain words
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be finite",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be UTF-8 text",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "must match {pattern}",
    "tuple_type": "must be a list{as_list}",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have {max_length} or fewer entries",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping of settings",
    "model_attributes_type": "must be a mapping of settings",
    "literal_error": "must be {one_of}{expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "union_tag_invalid": "has no kind {tag}; have {expected_tags}",
    "value_error": "{error}",
}


def build_config(verb: Verb[C], data: Mapping[str, Any], place: Callable[[str], str]) -> C:
    """Build the verb's config of composed settings.

    `place(key)` is where the user set a key: 'my-run.yaml:7: ', or '' for the command line. Raises UserError with all
    problems, one a line.
    """
    try:
        config = verb.schema.model_validate(data)
        errors: list[ErrorDetails] = []
    except ValidationError as e:
        errors = e.errors(include_url=False)
    missing = [key for key, value in flatten(data) if value == "???"]  # hydra's mark for a value still to be set
    mappings = {group: value for group in groups() if isinstance(value := data.get(group, {}), Mapping)}
    unchosen = [group for group, value in mappings.items() if "kind" not in value]
    if not (errors or missing or unchosen):
        return config

    by_key: dict[str, list[ErrorDetails]] = {}  # the alternatives of a union fail one by one, but are one problem
    for error in errors:
        key = _dotted(error, data)
        if key not in missing and key.partition(".")[0] not in unchosen:
            by_key.setdefault(key, []).append(error)
    problems = {key: f"{key}: must be given ({_meaning(key)}): write {key}=..." for key in missing}
    problems |= {key: _describe(key, alternatives, data) for key, alternatives in by_key.items()}
    lines = [f"{place(key)}{text}" for key, text in problems.items()]
    if unchosen:
        lines.insert(0, place("") + _nothing_chosen(unchosen))
    if len(lines) > 1:
        lines.insert(0, f"{len(lines)} problems in the configuration:")
    raise UserError("\n  ".join(lines))


def _nothing_chosen(unchosen: Sequence[str]) -> str:
    have = ", ".join(f"{group} ({', '.join(options(group))})" for group in unchosen)
    default, last = default_option(PRESET), unchosen[-1]
    assert default is not None
    preset = read_file(preset_path(default))
    example = default_option(last) or (preset.parts[last][0] if last in preset.parts else preset.choices[last])
    return f"nothing is chosen for {have}; add for example `{last}: {example}`"


def _dotted(error: ErrorDetails, data: Mapping[str, Any]) -> str:
    """The key that an error is about: pydantic's location without the names of union members."""
    here: Any = data
    keys: list[str] = []
    skipped_kind = False
    for part in error["loc"]:
        if isinstance(here, Mapping) and part == here.get("kind") and not skipped_kind:
            skipped_kind = True
        elif isinstance(here, Mapping) and (part in here or error["type"] == "missing"):
            keys.append(str(part))
            here, skipped_kind = here.get(part), False
        elif isinstance(here, list) and isinstance(part, int):
            keys.append(str(part))
            here = here[part] if part < len(here) else None
    if not keys:  # a rule of the whole config: its message begins with the key
        return error["msg"].removeprefix("Value error, ").partition(":")[0]
    return ".".join(keys)


def _describe(key: str, errors: Sequence[ErrorDetails], data: Mapping[str, Any]) -> str:
    """Describe a problem in plain words; several errors of one key are the alternatives of a union."""
    kind, value = errors[0]["type"], errors[0]["input"]
    group = key.rpartition(".")[0]
    if kind == "extra_forbidden":
        if schema_name(key) in fields():
            return lacks(key, reduce(getitem, group.split("."), data)["kind"])
        return unknown_setting(key, value)
    if kind == "missing":
        return f"{key}: must be given ({_meaning(key)})"
    if not errors[0]["loc"]:
        return _must(errors[0])
    if kind == "union_tag_invalid":
        tags = re.findall(r"\w+", errors[0]["ctx"]["expected_tags"])
        return f"{key}: {_must(errors[0])}{did_you_mean(errors[0]['ctx']['tag'], tags)}"
    if kind == "string_pattern_mismatch" and key in fields():  # the meaning says more than the pattern
        return f"{key}: must be {_meaning(key)} (got {value!r:.60})"
    first, *others = map(_must, errors)
    if isinstance(value, Mapping) and kind == "value_error":  # a rule about the settings of a group
        return f"{key}: {first}"
    allowed = ", or ".join([first, *(other.removeprefix("must be ") for other in others)])
    got = repr(value) if kind == "int_type" and isinstance(value, float) else _shown(value)  # 1000.0 is no whole number
    return f"{key}: {allowed} (got {got})"


def _shown(value: Any) -> str:
    """The value as YAML writes it, cut short."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, float):
        return text if float(text := f"{value:g}") == value else repr(value)  # 1.0000001 is not at most 1
    return json.dumps(value) if value is None or isinstance(value, bool) else f"{value!r:.60}"


def _must(error: ErrorDetails) -> str:
    limits = error.get("ctx", {})
    context = {k: f"{v:g}" if isinstance(v, float) else str(v).replace("'", "") for k, v in limits.items()}
    context = {k: text if text.strip() else f"'{text}'" for k, text in context.items()}
    one_of = "one of " if " or " in context.get("expected", "") else ""
    as_list = f", [{error['input']:.40}]" if isinstance(error["input"], str) else ""
    return _PLAIN.get(error["type"], error["msg"]).format(**context, one_of=one_of, as_list=as_list)


def _meaning(key: str) -> str:
    text = meaning(key) or "it has no default"
    return text[0].lower() + text[1:].rstrip(".")
