"""JSON requests to a server that may be slow, down, wrong or a stranger's: what every reward that asks one shares.

Nothing here makes an error into a score. What another try may mend is `Unanswered` with the seconds to wait: what the
server asks for, else twice as long each time, with jitter. Redirects are not followed: a token would travel with them.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self

from pydantic import Field, model_validator

from rlhf_cli.errors import UserError
from rlhf_cli.rewards.kinds.base import InProcess, Unanswered

PASSING: Final = frozenset((408, 425, 429, *range(500, 600)))
"""What a server answers where another try may help."""
LONGEST_WAIT_S: Final = 30.0
SHOWN: Final = 200
"""Characters of an answer that an error shows."""
_CHUNK: Final = 2**16


class Endpoint(InProcess):
    """A server, and how it is asked."""

    url: str = Field(min_length=1)
    """https://..., or http://localhost:PORT/..."""
    insecure: bool
    """Whether http will do for a server that is not this machine: everyone on the way can read it, and answer."""
    token_env: str | None = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The name of the environment variable with the token, which is sent as `Authorization: Bearer`; null: none."""
    concurrency: int = Field(ge=1, le=256)
    """Requests under way at a time."""
    request_timeout_s: float = Field(gt=0, le=86_400)
    """Seconds that one request may take; timeout_s is for all of a rollout."""
    max_response_bytes: int = Field(ge=1)
    """The longest answer that is read."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url must be https://HOST/..., or http:// on this machine")
        if parts.username is not None or parts.password is not None:
            raise ValueError("url must hold no password: give the name of an environment variable as token_env")
        if parts.scheme == "http" and not is_here(self.url) and not self.insecure:
            raise ValueError("url is http and not this machine: take https, or allow it by insecure=true")
        return self

    def check(self, key: str) -> None:
        """Raise UserError where the token's variable is not set."""
        if self.token_env is not None and not os.environ.get(self.token_env):
            raise UserError(
                f"the environment variable {self.token_env} is not set", where=f"{key}.token_env", fix="export it"
            )

    def notice(self, log: str = "") -> str:
        """That prompts and completions leave the machine, and for where."""
        if is_here(self.url):
            return ""
        return f"reward: prompts and completions are sent to {urllib.parse.urlsplit(self.url).netloc}"


def is_here(url: str) -> bool:
    """Whether the server is this machine."""
    host = urllib.parse.urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *of: Any) -> None:
        return None


class Client:
    """Asks one server; what it has answered of a batch that is asked for again is not asked for twice."""

    def __init__(
        self, url: str, *, token_env: str | None, concurrency: int, request_timeout_s: float, max_response_bytes: int
    ) -> None:
        self._url, self._concurrency = url, concurrency
        self._timeout_s, self._most = request_timeout_s, max_response_bytes
        self._token = os.environ[token_env] if token_env else ""
        proxies: dict[str, str] | None = {} if is_here(url) else None  # None: those of the environment
        self._opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler(proxies))
        self._answered: dict[str, Any] = {}
        self._batch: list[str] = []
        self._tries = 0

    def ask(self, bodies: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The answers to requests, several at a time. Raises Unanswered where one has none."""
        texts = [json.dumps(body, sort_keys=True) for body in bodies]
        if texts != self._batch:
            self._batch, self._answered, self._tries = texts, {}, 0
        missing = [text for text in dict.fromkeys(texts) if text not in self._answered]
        with ThreadPoolExecutor(self._concurrency) as pool:
            futures = {text: pool.submit(self._post, text) for text in missing}
        troubles = []
        for text, future in futures.items():
            if error := future.exception():
                troubles.append(error)
            else:
                self._answered[text] = future.result()
        if troubles:
            self._tries += 1
            final = [one for one in troubles if not (isinstance(one, Unanswered) and one.after_s is not None)]
            raise (final or troubles)[0]
        answers = [self._answered[text] for text in texts]
        self._batch, self._answered = [], {}
        return answers

    def reach(self) -> None:
        """Raise OSError where nobody listens: better at the start than after a rollout."""
        parts = urllib.parse.urlsplit(self._url)
        if is_here(self._url) or not urllib.request.getproxies():  # a proxy may know names that we do not
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((str(parts.hostname), port), self._timeout_s).close()

    def _post(self, body: str) -> Any:
        """The JSON of one answer. Raises Unanswered where the server is not reached, or answers that it cannot."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self._url, body.encode(), headers, method="POST")
        until = time.monotonic() + self._timeout_s
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                kind = response.headers.get_content_type()
                text = self._read(response, until)
        except urllib.error.HTTPError as error:
            with error:
                said = self._shown(error.read(4 * SHOWN))
            after = self._wait(error.headers.get("Retry-After")) if error.code in PASSING else None
            follow = "; redirects are not followed" if 300 <= error.code < 400 else ""
            raise Unanswered(f"answered {error.code} {error.reason}{follow}{said}", after) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            what = f"gave no answer: {type(reason).__name__}: {reason}"
            raise Unanswered(self._hidden(what), self._wait(None)) from None
        if not (kind == "application/json" or kind.endswith("+json")):
            raise Unanswered(f"answered with {kind}, not application/json{self._shown(text)}")
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise Unanswered(f"answered with what is no JSON{self._shown(text)}") from None

    def _read(self, response: http.client.HTTPResponse, until: float) -> bytes:
        read = bytearray()
        while chunk := response.read1(_CHUNK):
            read += chunk
            if len(read) > self._most:
                raise Unanswered(f"answered with more than {self._most} bytes (max_response_bytes)")
            if time.monotonic() > until:
                raise TimeoutError(f"more than {self._timeout_s:g} s (request_timeout_s)")
        return bytes(read)

    def _wait(self, asked_for: str | None) -> float:
        """Seconds until another try."""
        if asked_for is not None and asked_for.isdecimal():
            return min(float(asked_for), LONGEST_WAIT_S)
        longest = min(0.5 * 2**self._tries, LONGEST_WAIT_S)
        return float(longest) * random.SystemRandom().uniform(0.5, 1.0)

    def _shown(self, content: bytes) -> str:
        text = " ".join(self._hidden(content.decode("utf-8", "replace")).split())
        return f": {text[:SHOWN]}" if text else ""

    def _hidden(self, text: str) -> str:
        """Without the token, which a server may repeat."""
        return text.replace(self._token, "***") if self._token else text


def name_of(body: Mapping[str, Any]) -> str:
    """What a request is called by: the same for the same content."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
