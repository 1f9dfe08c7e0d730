"""When something is due."""

from __future__ import annotations

import pytest

from rlhf_cli.pipeline.run import due


@pytest.mark.parametrize(
    ("every", "total", "steps"),
    [(2, 6, [2, 4, 6]), (4, 6, [4, 6]), (1, 3, [1, 2, 3]), (10, 3, [3]), (0, 5, []), (3, 3, [3])],
)
def test_every_so_many_steps_and_the_last_one(every: int, total: int, steps: list[int]) -> None:
    assert [step for step in range(1, total + 1) if due(step, every, total)] == steps
