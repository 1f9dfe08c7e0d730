"""Completions scored by a server through the reward `http`; its tests and those of the HTTP client share this."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_cli.rewards.kinds.base import Unanswered
from tests.score_server import ScoreServer
from tests.unit.rewards.support import made, score_function

TEXTS = ["a", "bb", "ccc"]


def scores(server: ScoreServer, texts: list[Any] = TEXTS, **changes: Any) -> list[float | None]:
    """Ask the server about the texts."""
    score = score_function(made("http", url=server.url, **changes))
    return score(prompts=["p"] * len(texts), completions=texts, answer=list(range(len(texts))))


def unanswered(server: ScoreServer, **changes: Any) -> Unanswered:
    """The error where the server gives no usable answer."""
    with pytest.raises(Unanswered) as caught:
        scores(server, **changes)
    return caught.value
