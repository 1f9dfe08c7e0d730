"""The server that the tests of rewards over HTTP ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.score_server import ScoreServer, score_server


@pytest.fixture
def server() -> Iterator[ScoreServer]:
    """A server that scores, as long as a test lasts."""
    with score_server() as listening:
        yield listening
