"""Where a process stands, as its environment says."""

from __future__ import annotations

import pytest

from rlhf_cli.ranks.children import place


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "2", "WORLD_SIZE": "4"}, (2, 4)),
        ({"WORLD_SIZE": "4"}, (0, 1)),
        ({"RANK": "", "WORLD_SIZE": ""}, (0, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),
    ],
    ids=str,
)
def test_rank_and_size(environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert place(environment) == expected
