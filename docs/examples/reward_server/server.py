"""A reward server on Python's standard library: python server.py [PORT]

It answers `rlhf train reward=http reward.url=http://127.0.0.1:8001/score`, on this machine alone. Where the environment
variable REWARD_TOKEN is set, it asks for that token: reward.token_env=REWARD_TOKEN.
"""

import contextlib
import hmac
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGEST = 8 * 2**20  # bytes of a request


def score(prompt, completion, columns):
    """Yours to write: one number, or None where there is no score."""
    text = completion if isinstance(completion, str) else completion[-1]["content"]
    return 1.0 / (1 + abs(len(text.split()) - 10))  # ten words are best


class Handler(BaseHTTPRequestHandler):
    """POST {"id", "prompts", "completions", "columns"} -> {"id", "scores"}."""

    def do_POST(self):
        token = os.environ.get("REWARD_TOKEN", "")
        given = self.headers.get("Authorization", "")
        if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return self.answer(401, {"error": "no token, or another one"})
        length = int(self.headers.get("Content-Length", 0))
        if not 0 < length <= LARGEST:
            return self.answer(413, {"error": f"a request has 1 to {LARGEST} bytes"})
        try:
            asked = json.loads(self.rfile.read(length))
            rows = range(len(asked["completions"]))
            columns = [{name: values[row] for name, values in asked["columns"].items()} for row in rows]
            scores = [score(asked["prompts"][row], asked["completions"][row], columns[row]) for row in rows]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            return self.answer(400, {"error": f"{type(error).__name__}: {error}"})
        return self.answer(200, {"id": asked["id"], "scores": scores})

    def answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, form, *values):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8001), Handler)
    print(f"http://127.0.0.1:{server.server_port}/score", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
