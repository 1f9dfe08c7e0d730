"""Scores from a JSON server of the user's.

    POST  {"id": "...", "prompts": [...], "completions": [...], "columns": {"name": [...]}}
    200   {"id": "the same", "scores": [0.5, null, ...]}

Prompts and completions are what a Python function would get: texts, or lists of messages for chat data. The server
answers with a number for each completion, or null for no score (`on_error`). docs/examples/reward_server is an example.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from rlhf_cli.data.messages import describe_type
from rlhf_cli.plural import plural
from rlhf_cli.rewards.kinds.base import RangedSource, Unanswered
from rlhf_cli.rewards.kinds.endpoint import Endpoint


class Http(Endpoint, RangedSource):
    """Scores from a JSON server."""

    factory: ClassVar[str] = "rlhf_cli.rewards.kinds.http:make_score"

    kind: Literal["http"]
    batch_size: int = Field(ge=1)
    """Completions of one request; a score should not depend on the others in it."""
    send_columns: bool
    """Whether to send the data's other columns too."""

    @property
    def columns_read(self) -> tuple[str, ...] | None:
        """Any column, where they are sent."""
        return None if self.send_columns else ()


def make_score(**settings: Any) -> Callable[..., list[float | None]]:
    """Make a function that asks the server.

    The function raises Unanswered where the server gives no answer, or something else than a number or null for each
    completion.
    """
    from rlhf_cli.rewards.http_client import Client

    own = Http.model_construct(**settings)
    client = Client(own.url, own)
    client.check_reachable()

    def score(prompts: Sequence[Any], completions: Sequence[Any], **columns: Sequence[Any]) -> list[float | None]:
        bodies = []
        for start in range(0, len(completions), own.batch_size):
            rows = slice(start, start + own.batch_size)
            sent = {name: values[rows] for name, values in columns.items()} if own.send_columns else {}
            body: dict[str, Any] = {"prompts": prompts[rows], "completions": completions[rows], "columns": sent}
            same = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()  # for the same content
            bodies.append(body | {"id": same[:16]})
        answers = zip(bodies, client.ask(bodies), strict=True)
        return [score for body, answer in answers for score in _scores(answer, body["id"], len(body["completions"]))]

    return score


def _scores(answer: Any, request_id: str, count: int) -> list[float | None]:
    """The scores; raises Unanswered in words that repeat no text of the answer: it may be the token."""
    if not isinstance(answer, dict) or not isinstance(answer.get("scores"), list):
        raise Unanswered('answered with no {"id": ..., "scores": [...]}')
    if answer.get("id") != request_id:
        raise Unanswered(f"answered another request: its id is not {request_id!r}")
    scores: list[float | None] = answer["scores"]
    if len(scores) != count:
        raise Unanswered(f"answered with {plural(len(scores), 'score')} for {plural(count, 'completion')}")
    for score in scores:
        if isinstance(score, bool) or not isinstance(score, int | float | None):
            raise Unanswered(f"answered with {describe_type(score)} as a score, which is neither a number nor null")
    return scores
