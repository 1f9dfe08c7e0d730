"""Write the pages of docs/ that follow from the code: every setting, and the names that other tools give to ours."""

from __future__ import annotations

from pathlib import Path

from rlhf_cli.config.foreign import OURS
from rlhf_cli.config.help.listing import key_defaults
from rlhf_cli.config.keys import meanings, rule
from rlhf_cli.config.options import groups, options
from rlhf_cli.verbs import VERBS, Verb, composing

DOCS = Path(__file__).parents[2] / "docs"
NAMES = "## Every name"


def settings_page() -> str:
    """docs/settings.md: the settings of each verb, but for those that the one before it has alike."""
    parts = [
        "# Every setting\n\n"
        "`scripts/pages/reference.py` writes this page from the schema. `rlhf explain config=...` shows the values of\n"
        "your run, with what sets each; `rlhf schema` writes a JSON schema for an editor. Where options of a group\n"
        "differ in a default, all are given; a preset may have other ones.\n"
    ]
    before, known = "", list[str]()
    for verb in VERBS:
        with composing(verb):
            rows = _rows()
            parts.append(_verb_part(verb, before, [row for row in rows if row not in known]))
        before, known = verb.words, rows
    return "\n".join(parts)


def _verb_part(verb: Verb, before: str, rows: list[str]) -> str:
    lines = [f"## rlhf {verb.words}\n", f"{verb.about[0].upper()}{verb.about[1:]}.\n"]
    lines += [f"- `{group}`: {', '.join(f'`{name}`' for name in options(group))}" for group in sorted(groups())]
    if before:
        same = "A setting that `rlhf {}` has with the same default and meaning is left out here."
        lines += ["", (same if rows else "Its settings are those of `rlhf {}`, defaults and all.").format(before)]
    if rows:
        lines += ["", "| setting | default | type and range | meaning |", "|---|---|---|---|", *rows]
    return "\n".join([*lines, ""])


def _rows() -> list[str]:
    """A row for each setting of the current verb, and for each of its meanings."""
    rows = []
    for key, each in sorted(meanings().items()):
        default = " or ".join(f"`{value}`" for value in key_defaults(key)) or "—"
        for meaning, kinds in each.items():
            of = f"({', '.join(sorted(set(kinds)))}) " if kinds else ""
            allowed = rule(key, next(iter(kinds), None))
            rows.append(f"| `{key}` | {_cell(default)} | {_cell(allowed)} | {_cell(of + meaning)} |")
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def names_part() -> str:
    """The table of docs/coming-from.md: our settings, and their names in other tools."""
    rows = [f"| `{ours}` | {', '.join(f'`{name}`' for name in names)} |" for ours, names in OURS.items()]
    return "\n".join([NAMES, "", "| here | elsewhere |", "|---|---|", *rows, ""])


def pages() -> dict[Path, str]:
    """Every page with its text."""
    coming = DOCS / "coming-from.md"
    prose = coming.read_text(encoding="utf-8").partition(NAMES)[0]
    return {DOCS / "settings.md": settings_page(), coming: prose + names_part()}


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
