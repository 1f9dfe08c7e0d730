"""scripts/pages/reference.py: the pages of docs/ that follow from the code are as it writes them."""

from __future__ import annotations

import re

from tests.scripts import load

reference = load("pages/reference.py")


def test_the_pages_are_current() -> None:
    """scripts/lint writes them."""
    for page, text in reference.pages().items():
        assert page.read_text(encoding="utf-8") == text, page.name


def test_a_setting_has_its_row() -> None:
    rows = [line for line in reference.settings_page().splitlines() if line.startswith("| `beta.target` ")]
    assert rows == [
        "| `beta.target` | `3.0` | number, above 0 | (adaptive, target) The KL to hold, nats per completion. |"
    ]


def test_a_default_that_another_verb_has_of_its_own_is_told() -> None:
    _, train, sft, dpo, reward = reference.settings_page().split("\n## ")
    told = {text.partition("\n")[0]: re.findall(r"^\| `steps` \| `(\d+)`", text, re.MULTILINE) for text in (train, sft)}
    assert told == {"rlhf train": ["40"], "rlhf sft": ["60"]}
    assert "| `seed` |" in train
    assert "| `seed` |" not in sft
    assert [text.splitlines()[-1] for text in (dpo, reward)] == [
        f"Its settings are those of `rlhf {before}`, defaults and all." for before in ("sft", "dpo")
    ]


def test_what_other_tools_call_it_stands_beside_ours() -> None:
    assert "| `optimizer.lr` | `learning_rate`, " in reference.names_part()
