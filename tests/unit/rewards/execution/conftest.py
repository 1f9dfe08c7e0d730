"""Sources whose function stands in a file of its own."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rlhf_cli.rewards.execution.retrying import RetryingSource
from tests.unit.rewards.execution.support import Opened, python_of


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """`opened(code, on_error="mask", ...)`: an open source, whose function is `f` of that code, in rewards.py."""
    with ExitStack() as stack:

        def open_source(
            code: str, *, columns: tuple[str, ...] = ("answer", "topic"), **settings: object
        ) -> RetryingSource:
            (tmp_path / "rewards.py").write_text(textwrap.dedent(code))
            python = python_of(**{"function": f"{tmp_path}/rewards.py:f"} | settings)
            source = RetryingSource(python, "reward", columns, tmp_path / "reward.log")
            stack.callback(source.close)
            source.open()
            return source

        yield open_source
