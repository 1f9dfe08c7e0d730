"""The page's routes. The page only ever hears of a first and a second text: which is a is known here.

All routes are coroutines, which take turns in one thread: a desk knows which file it asked from last, and a question in
a thread of its own could change that between a vote and its file.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rlhf_cli.feedback.desk import Desk
from rlhf_cli.feedback.readable import readable
from rlhf_cli.feedback.session import Question
from rlhf_cli.feedback.votes import Choice
from rlhf_cli.feedback.web.guard import App, Guard
from rlhf_cli.json_text import from_json

STATIC: Final = Path(__file__).parent / "static"
FILES: Final = {"label.css": "text/css", "label.js": "text/javascript", "icon.svg": "image/svg+xml"}
LONGEST_NOTE: Final = 2000
CHOICES: Final[dict[str, Choice]] = {"tie": "tie", "both_bad": "both_bad", "skip": "skip"}


def build_app(
    desk: Desk, token: str, port: int, said: Callable[[], list[tuple[str, str]]], shown: Callable[[], str] | None
) -> App:
    """The page for one rater. `said` is what the votes say, for the end; `shown` the present win rate, if wanted."""

    def state(status: int = 200, **more: Any) -> Response:
        content: dict[str, Any]
        if (question := desk.question()) is not None:
            content = {
                "done": False,
                "pair": question.pair.id,
                "number": question.number,
                "of": question.of,
                "prompt": readable(question.pair.prompt),
                "first": readable(question.pair.text[question.left]),
                "second": readable(question.pair.text[question.right]),
                "rate": readable(shown()) if shown else "",
            }
        elif (why := desk.waiting()) is not None:
            content = {"done": True, "waiting": readable(why), "said": []}
        else:
            content = {"done": True, "said": [[readable(name), readable(text)] for name, text in said()]}
        return JSONResponse(content | more, status)

    async def page(request: Request) -> Response:
        text = (STATIC / "label.html").read_text(encoding="utf-8").replace("{token}", token)
        return Response(text, media_type="text/html")

    async def file(request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        return Response((STATIC / name).read_bytes(), media_type=FILES[name])

    async def question(request: Request) -> Response:
        return state()

    async def vote(request: Request) -> Response:
        body = await _body(request)
        asked = desk.question()
        choice = _choice(body.get("vote"), asked)
        note = body.get("note", "")
        if choice is None or not _is_note(note):
            return JSONResponse({"error": "no vote"}, 400)
        if asked is None or body.get("pair") != asked.pair.id:  # another tab, or a page that was gone back to
            return state(409, error="that pair is not asked any more; this is the next one")
        desk.answer(asked, choice, note.strip())
        return state()

    async def undo(request: Request) -> Response:
        return state() if desk.undo() else state(409, error="nothing to take back")

    routes = [
        Route("/", page),
        *(Route(f"/{name}", file) for name in FILES),
        Route("/api/question", question),
        Route("/api/vote", vote, methods=["POST"]),
        Route("/api/undo", undo, methods=["POST"]),
    ]
    return Guard(Starlette(routes=routes, exception_handlers={OSError: _refused_by_disk}), token, port)


def _choice(vote: Any, asked: Question | None) -> Choice | None:
    if vote in ("first", "second") and asked is not None:
        return asked.left if vote == "first" else asked.right
    return CHOICES.get(vote) if isinstance(vote, str) else None


def _is_note(value: Any) -> bool:
    """Whether it is a text that a file can hold: no half of a surrogate pair."""
    return isinstance(value, str) and len(value) <= LONGEST_NOTE and value == value.encode(errors="replace").decode()


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = from_json(await request.body())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _refused_by_disk(request: Request, error: Exception) -> Response:
    reason = error.strerror if isinstance(error, OSError) else error
    return JSONResponse({"error": f"the disk refuses, and nothing was saved: {reason}"}, 507)
