"""Read the command line of `rlhf train`: separate options from overrides, and write overrides as hydra reads them.

Hydra by itself refuses options after overrides, a number for a group (`beta=0.05`), and a `~` or a bracket in a path.
"""

import os
import re
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString, ValueType
from hydra.errors import HydraException

from rlhf_cli.config.foreign import list_suggestions, ours_for, unknown_setting
from rlhf_cli.config.keys import did_you_mean, find_nearest, holds_path, make_absolute, schema_name, takes_text
from rlhf_cli.config.options import PRESET, check_option, groups, is_file, is_foreign_group, options
from rlhf_cli.config.typed import insert_breaks, refuse_reinterpreted
from rlhf_cli.errors import UserError
from rlhf_cli.paths import quoted
from rlhf_cli.runs.changes import is_under
from rlhf_cli.runs.folder import CONFIG

_SHORT = {"-m": "--multirun", "-r": "--run", "-c": "--cfg", "-i": "--info", "-h": "--help"}
COMPARE_AT = "--compare-at"
_DISPLAYS = ("json", "quiet")
"""Values of `display` that other verbs and tools have as options."""
_VALUES: dict[str, tuple[str, ...]] = {
    "--multirun": (),
    "--run": (),
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--resolve": (),
    COMPARE_AT: (),
    "--help": (),
    "--hydra-help": (),
}
OPTIONS = (*_VALUES, *_SHORT)
_STARTS = {"--run", "-r", "--multirun", "-m"}
_ONLY_SHOW = {
    "dry_run", "dryrun", "no_run", "norun", "no_train", "check", "check_only", "validate", "test_run", "simulate",
}  # fmt: skip


def parse_arguments(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Separate hydra's options, each with its value, from the overrides as typed, wherever they stand.

    Raises UserError on an unknown or misused option.
    """
    options: dict[str, str] = {}
    overrides: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        typed, _, value = word.partition("=")
        name = _SHORT.get(typed, typed)
        if name not in _VALUES:
            raise UserError(f"unknown option {typed}{_suggestion(typed)}")
        if not value and rest and (rest[0] in _VALUES[name] or name == COMPARE_AT):
            value = rest.pop(0)
        value = value or ("all" if name == "--info" else "")
        if name != COMPARE_AT and value not in (_VALUES[name] or ("",)):
            raise UserError(f"{typed} takes " + (" or ".join(_VALUES[name]) or "no value"))
        options[name] = value
    return options, overrides


def _suggestion(option: str) -> str:
    """Suggest the option or setting that is meant; an option that starts runs only where just the dashes are wrong."""
    name = option.lstrip("-").replace("-", "_")
    if name in _ONLY_SHOW:
        return "; nothing runs with --cfg job, which shows the settings"
    if ours := ours_for(name):
        return f"; here it is {ours}=..."
    if display := find_nearest(name, _DISPLAYS):
        return f"; did you mean display={display}?"
    setting = find_nearest(name, [*list_suggestions(), PRESET])
    same = name.replace("_", "")
    candidates = [known for known in OPTIONS if known not in _STARTS or known.lstrip("-") == same]
    return f"; did you mean {setting}=...?" if setting else did_you_mean(option, candidates)


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


@cache
def parse_override(argument: str) -> Override:
    """Parse an override as hydra does; a value that hydra's grammar refuses (`~`, brackets, quotes) becomes plain text.

    Raises UserError if the override is not of the form key=value.
    """
    key, equals, value = argument.partition("=")
    if not key or not (equals or argument.startswith("~")):
        raise UserError(f"{argument}: not an override: write key=value{suggest_config(argument)}")
    try:
        return _parser().parse_override(argument)
    except (HydraException, ValueError):  # ValueError: a number of thousands of digits
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            fix = f"write \\{value[0]} for a quote within quotes"
            raise UserError(f"{key}: the quotes do not fit together", fix=fix) from None
        text = ",".join(quote(part) for part in value.split(","))
    try:
        return _parser().parse_override(f"{key}={text}")
    except HydraException as e:
        raise UserError(f"{argument}: not an override: write key=value") from e


def suggest_config(word: str) -> str:
    """Ask whether a word that names a file, a preset or a run was meant as such; empty where it names none."""
    if os.path.isfile(os.path.join(word, CONFIG)):  # False too where a word is too long for a name
        return f"; resume={quoted(Path(word))} goes on with a run"
    return f"; did you mean config={shlex.quote(word)}?" if is_file(word) or word in options(PRESET) else ""


def rewrite(argument: str, base: Path) -> str:
    """Rewrite an override for hydra: put options of groups, paths and texts in quotes; make paths absolute from `base`.

    Raises UserError if a group has no such option, if hydra would read something else than was typed, or if the
    argument is no override.
    """
    override = parse_override(argument)
    if is_foreign_group(override.key_or_group):
        raise UserError(unknown_setting(override.key_or_group))
    key, equals, typed = argument.partition("=")
    if equals and takes_text(override.key_or_group):
        argument = f"{key}={insert_breaks(override.key_or_group, typed)}"
        override = parse_override(argument)
    if override.type is OverrideType.CHANGE and "*" in schema_name(override.key_or_group):
        # hydra does not know a name that the user chose
        override = parse_override(f"++{argument}")
    if not _is_text(override):
        return _as_typed(override)
    key = override.key_or_group

    def rewrite_value(value: Any) -> str:
        text = value.text if isinstance(value, QuotedString) else "null" if value is None else str(value)
        if _is_group(key):
            return quote(check_option(key, text, base))
        if isinstance(value, bool | int | float | list) and not override.is_sweep_override():
            text = argument.partition("=")[2].strip()  # run_dir=1e3 is not 1000.0
        return text if value is None else quote(make_absolute(key, text, base))

    values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    return f"{override.get_key_element()}={','.join(map(rewrite_value, values))}"


def renew_command(command: Sequence[str], overrides: Sequence[str]) -> tuple[str, ...]:
    """The command of a run with the overrides of a resume, in place of those that they replace; run.json keeps it."""
    new = [unquote(rewrite(word, Path.cwd())) for word in overrides if not word.startswith("resume_allow=")]
    keys = {_key_in(word) for word in new}
    return (*(word for word in command if not is_under(_key_in(word), keys)), *new)


def _key_in(word: str) -> str:
    return word.lstrip("+").partition("=")[0]


def _as_typed(override: Override) -> str:
    """Keep an override as typed: put its text in quotes where hydra would change it (`\\(`, a space at the end)."""
    line = str(override.input_line)
    typed = line.partition("=")[2]
    is_alone = not override.is_sweep_override() and isinstance(override.value(), str)
    if is_alone and takes_text(override.key_or_group):
        is_quoted = typed.strip()[:1] in ("'", '"')
        return line if is_quoted or typed == override.value() else f"{override.get_key_element()}={quote(typed)}"
    if override.value_type is ValueType.ELEMENT or override.value_type is ValueType.SIMPLE_CHOICE_SWEEP:
        values = override.value() if not override.is_sweep_override() else [*override.sweep_iterator()]
        refuse_reinterpreted(override.key_or_group, typed, values if isinstance(values, list) else [values])
    return line


def _is_text(override: Override) -> bool:
    """Whether the value is a text: the option of a group, or a path."""
    if override.is_delete() or override.package or override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        return False
    if override.is_interval_sweep() or isinstance(override.value(), dict):
        return False
    return _is_group(override.key_or_group) or holds_path(override.key_or_group)


def _is_group(key: str) -> bool:
    return key == PRESET or key in groups()


def quote(text: str) -> str:
    """Quote a value, so that hydra's grammar does not change it."""
    return QuotedString(text, Quote.single).with_quotes()


def unquote(override: str) -> str:
    """Remove the quotes that `rewrite` put around a plain word."""
    parsed = parse_override(override)
    is_plain = _is_text(parsed) and re.fullmatch(r"[\w./:@+-]+", str(parsed.value()))
    return f"{parsed.get_key_element()}={parsed.value()}" if is_plain else override
