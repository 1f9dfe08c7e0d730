"""A number with its noun."""

from __future__ import annotations

import pytest

from rlhf_cli.plural import plural, some


@pytest.mark.parametrize(("number", "text"), [(0, "0 prompts"), (1, "1 prompt"), (2, "2 prompts"), (21, "21 prompts")])
def test_one_has_no_s(number: int, text: str) -> None:
    assert plural(number, "prompt") == text


@pytest.mark.parametrize(
    ("names", "said"),
    [([], ""), ([*"abc"], "a, b, c"), ([*"abcd"], "a, b, c and 1 more"), ([*"abcde"], "a, b, c and 2 more")],
)
def test_some(names: list[str], said: str) -> None:
    assert some(names) == said
