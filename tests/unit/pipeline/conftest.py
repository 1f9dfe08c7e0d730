"""A policy and runs for the tests of the stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.run import Run
from tests.unit.pipeline.runs import MakeRun, run_of


@pytest.fixture
def policy(moved_policies: Callable[[str], Policy]) -> Policy:
    """A tiny Llama with a moved adapter; shared, so leave it as it is."""
    return moved_policies("llama")


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[MakeRun]:
    """`run_of` in the test's folder; the files are closed afterwards."""
    made: list[Run] = []

    def make(policy: Policy, **settings: Any) -> Run:
        made.append(run_of(policy, tmp_path / f"run-{len(made)}", **settings))
        return made[-1]

    yield make
    for run in made:
        run.logbook.close()
