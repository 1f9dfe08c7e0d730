"""List the groups, options and settings of a verb, with defaults and meanings: parts of its help page."""

import textwrap
from collections import defaultdict
from collections.abc import Mapping
from itertools import chain
from typing import Final

from rlhf_cli.config.keys import meanings
from rlhf_cli.config.options import PRESET, files_of_first, groups, options, read_option
from rlhf_cli.settings import as_text, flatten
from rlhf_cli.verbs import cache_by_verb

INDENT: Final = "    "
LONGEST: Final = 36
"""Characters of defaults that the help page shows."""


def option_list() -> str:
    """Every group with its options, wrapped for a terminal: a part of the help page."""
    rows = (f"{group}: {', '.join(options(group))}" for group in sorted((*groups(), PRESET)))
    return "\n".join(textwrap.fill(row, 79, subsequent_indent="  ") for row in rows)


@cache_by_verb  # hydra reads the help page whenever it composes
def key_list() -> str:
    """Every key with its default, wrapped for a terminal: a part of the help page; the meanings are the schema's.

    A default of a group is that of its options: several are separated by |; ... is one that every option leaves open.
    """
    lines = []
    ours = sorted(meanings().items(), key=lambda item: item[0].partition(".")[0] in groups())
    for key, each in ours:
        of_all = set(chain.from_iterable(each.values())) >= _kinds(_group_of(key))
        lines.append(f"{key}={'|'.join(key_defaults(key)) or '...'}")
        for meaning, kinds in each.items():
            own = f"With {', '.join(kinds)}: " if (kinds and not of_all) or len(each) > 1 else ""
            text = textwrap.fill(own + meaning, 79 - len(INDENT), break_on_hyphens=False)
            lines.append(textwrap.indent(text, INDENT))
    return "\n".join(lines)


def key_defaults(key: str) -> tuple[str, ...]:
    """The default of a setting, as text; of a group's, those of its options. Empty where all leave it open."""
    return _defaults(_group_of(key)).get(key, ())


def _group_of(key: str) -> str | None:
    group = key.partition(".")[0]
    return group if group in groups() else None


@cache_by_verb
def _kinds(group: str | None) -> frozenset[str]:
    """The kinds of a group's options."""
    return frozenset(str(read_option(group, name)["kind"]) for name in options(group)) if group else frozenset()


@cache_by_verb
def _defaults(group: str | None) -> Mapping[str, tuple[str, ...]]:
    """The short values of each key in the options of the group, or without one in the verb's first file."""
    names = options(group) if group else [file.stem for file in files_of_first()]
    bodies = [read_option(group or "", name) for name in names]
    bodies += [read_option("", "shaping")] if group == "reward" else []
    found: dict[str, list[str]] = defaultdict(list)
    for body in bodies:
        prefix = f"{group}." if group else ""
        for key, value in flatten(body, prefix, with_empty=True):
            text = as_text(value)
            if text != "???" and text not in found[key]:
                found[key].append(text)
    return {key: tuple(values) for key, values in found.items() if len("|".join(values)) <= LONGEST}
