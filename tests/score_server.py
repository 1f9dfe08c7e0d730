"""A server that scores, in a thread of this process: what `reward=http` and `reward=judge` ask in tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


class ScoreServer:
    """Scores by length, unless `faults` has something else to do first; remembers the requests."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.faults: list[Fault] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body)
                outer.headers.append(dict(self.headers))
                fault = outer.faults.pop(0) if outer.faults else None
                if fault:
                    fault(self, body)
                elif "messages" in body:
                    send(self, {"choices": [{"message": {"content": f"Fine. Score: {len(outer.asked)}"}}]})
                else:
                    send(self, {"id": body["id"], "scores": [len(text) for text in body["completions"]]})

            def log_message(self, *of: Any) -> None:
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/score"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


def send(
    handler: BaseHTTPRequestHandler, body: Any, status: int = 200, kind: str = "application/json", **more: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **more}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


@contextmanager
def score_server() -> Iterator[ScoreServer]:
    """A server that listens until the end of `with`."""
    listening = ScoreServer()
    try:
        yield listening
    finally:
        listening.server.shutdown()
        listening.server.server_close()
