"""Sources with a function of the user, and what they are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rlhf_cli.errors import EXIT_REWARD, UserError
from rlhf_cli.rewards.execution.retrying import RetryingSource, ScoreRequest, SourceScores
from rlhf_cli.rewards.kinds.python import Python
from rlhf_cli.types import PromptRow

ROWS = [PromptRow(f"prompt {i}", {"answer": i, "topic": None}, f"p.jsonl:{i}") for i in range(1, 4)]
TEXTS = ["a", "bb", "ccc", "dddd"]
"""Two of each of the first two prompts."""
SEE = "; fix: mend it (see reward.log), or leave such prompts out: reward.on_error=mask"

Opened = Callable[..., RetryingSource]


def python_of(function: str, **settings: Any) -> Python:
    """The settings of a user's function."""
    given = {"function": function, "best": None, "timeout_s": 20.0, "retries": 1, "on_error": "stop"}
    return Python(**{"kind": "python", "error_value": -7.0} | given | settings)


def ask(
    source: RetryingSource,
    texts: Sequence[str] = TEXTS,
    *,
    prompts: Sequence[PromptRow] | None = None,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> SourceScores:
    """Score texts, two of each prompt unless `prompts` has one for each."""
    rows = [ROWS[row // 2] for row in range(len(texts))] if prompts is None else prompts
    return source.score(ScoreRequest(rows, texts, None, seed, tick, "step 3"))


def refused(action: Callable[[], Any]) -> str:
    """The one line of the error that ends the run."""
    with pytest.raises(UserError) as caught:
        action()
    assert caught.value.exit_code == EXIT_REWARD == 4
    assert "\n" not in caught.value.line()
    return caught.value.line()
