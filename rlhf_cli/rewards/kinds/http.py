"""A server of one's own that scores: JSON there, JSON back.

    POST  {"id": "...", "prompts": [...], "completions": [...], "columns": {"name": [...]}}
    200   {"id": "the same", "scores": [0.5, null, ...]}

Prompts and completions are what a Python function would be given: texts, or lists of messages for chat data. One number
a completion; null is no score (`on_error`). docs/examples/reward_server is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from rlhf_cli.rewards.http_client import Client, Endpoint, name_of
from rlhf_cli.rewards.kinds.base import Unanswered


class Http(Endpoint):
    """Scores from a JSON server."""

    target: ClassVar[str] = "rlhf_cli.rewards.kinds.http:scorer"

    kind: Literal["http"]
    batch_size: int = Field(ge=1)
    """Completions of one request; a score should not depend on those beside it."""
    send_columns: bool
    """Whether the data's other columns are sent too."""
    best: float | None
    """The highest score there is; null: unknown."""

    @property
    def highest(self) -> float:
        """`best`, or infinity where it is unknown."""
        return math.inf if self.best is None else self.best

    def options(self) -> dict[str, Any]:
        """All that asking takes."""
        return {name: value for name, value in super().options().items() if name not in ("insecure", "best")}


def scorer(url: str, *, batch_size: int, send_columns: bool, **how: Any) -> Callable[..., list[float | None]]:
    """A function that asks the server.

    It raises Unanswered where the server has no answer, or one that is no list with a number or null a completion.
    """
    client = Client(url, **how)
    client.reach()

    def score(prompts: Sequence[Any], completions: Sequence[Any], **columns: Sequence[Any]) -> list[float | None]:
        bodies = []
        for start in range(0, len(completions), batch_size):
            part = slice(start, start + batch_size)
            sent = {name: values[part] for name, values in columns.items()} if send_columns else {}
            body: dict[str, Any] = {"prompts": prompts[part], "completions": completions[part], "columns": sent}
            bodies.append(body | {"id": name_of(body)})
        answers = zip(bodies, client.ask(bodies), strict=True)
        return [score for body, answer in answers for score in _scores(answer, body["id"], len(body["completions"]))]

    return score


def _scores(answer: Any, name: str, count: int) -> list[float | None]:
    if not isinstance(answer, dict) or not isinstance(answer.get("scores"), list):
        raise Unanswered('answered with no {"id": ..., "scores": [...]}')
    if answer.get("id") != name:
        raise Unanswered(f"answered another request: id {answer.get('id')!r:.40}, not {name!r}")
    scores: list[float | None] = answer["scores"]
    if len(scores) != count:
        raise Unanswered(f"answered with {len(scores)} scores for {count} completions")
    for score in scores:
        if isinstance(score, bool) or not isinstance(score, int | float | None):
            raise Unanswered(f"answered with {score!r:.40} as a score, which is neither a number nor null")
    return scores
