"""Send JSON requests to a server that may be slow, down, wrong or hostile.

An error never becomes a score. Where another try may help, `Unanswered` says how long to wait: as long as the server
asks for, else twice as long each time, with jitter; never longer than LONGEST_WAIT_S. Redirects are not followed,
because a token would travel along. Answers are not unpacked, because a small one could become huge. No cookie is kept,
because an answer must not depend on the requests before it.
"""

import codecs
import json
import os
import random
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2

from rlhf_cli.json_text import from_json
from rlhf_cli.rewards.kinds.base import Unanswered
from rlhf_cli.rewards.kinds.endpoint import Endpoint, is_local, is_loopback
from rlhf_cli.rewards.texts import SHOWN

PASSING: Final = frozenset((408, 425, 429, *range(500, 600)))
"""The status codes after which another try may help."""
LONGEST_WAIT_S: Final = 30.0


class Client:
    """The client of one server. When a batch is repeated, it sends only the requests without an answer again."""

    def __init__(self, url: str, settings: Endpoint) -> None:
        self._url, self._concurrency = url, settings.concurrency
        self._timeout_s, self._max_bytes = settings.request_timeout_s, settings.max_response_bytes
        self._token = os.environ[settings.token_env] if settings.token_env else ""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        self._client = httpx2.Client(
            headers=headers | ({"Authorization": f"Bearer {self._token}"} if self._token else {}),
            timeout=self._timeout_s,
            follow_redirects=False,
            trust_env=not is_local(url),  # a proxy of the environment is for other machines
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            limits=httpx2.Limits(max_connections=self._concurrency, max_keepalive_connections=0),
        )
        self._answers: dict[str, Any] = {}
        self._batch: list[str] = []
        self._tries = 0

    def ask(self, bodies: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Send the requests, several at a time, and return their answers. Raises Unanswered if one has none."""
        texts = [json.dumps(body, sort_keys=True) for body in bodies]
        if texts != self._batch:
            self._batch, self._answers, self._tries = texts, {}, 0
        missing = [text for text in dict.fromkeys(texts) if text not in self._answers]
        with ThreadPoolExecutor(self._concurrency) as pool:
            futures = {text: pool.submit(self._post, text) for text in missing}
        errors = []
        for text, future in futures.items():
            if error := future.exception():
                errors.append(error)
            else:
                self._answers[text] = future.result()
        if errors:
            self._tries += 1
            final = [error for error in errors if getattr(error, "retry_after_s", None) is None]
            raise (final or errors)[0]
        answers = [self._answers[text] for text in texts]
        self._batch, self._answers = [], {}
        return answers

    def check_reachable(self) -> None:
        """Raise OSError where nobody listens, or where localhost is another machine: before the run, not in it."""
        parts = urlsplit(self._url)
        if is_local(self._url) or not getproxies():  # a proxy may know names that we do not
            port = parts.port or (443 if parts.scheme == "https" else 80)
            with socket.create_connection((str(parts.hostname), port), self._timeout_s) as connection:
                address = str(connection.getpeername()[0])
            if is_local(self._url) and not is_loopback(address):
                raise OSError(f"{parts.hostname} is {address}, which is not this machine")

    def _post(self, body: str) -> Any:
        """Send one request and return the JSON of its answer. Raises Unanswered where there is none."""
        deadline = time.monotonic() + self._timeout_s
        try:
            with self._client.stream("POST", self._url, content=body.encode()) as response:
                content = self._read(response, deadline, self._max_bytes if response.is_success else 4 * SHOWN)
        except (httpx2.TransportError, OSError) as error:
            raise self._unanswered(
                f"gave no answer: {type(error).__name__}: {error}", b"", self._wait_s(None)
            ) from None
        if not response.is_success:
            code = response.status_code
            wait_s = self._wait_s(response.headers.get("Retry-After")) if code in PASSING else None
            redirect = "; redirects are not followed" if response.is_redirect else ""
            raise self._unanswered(f"answered {code} {response.reason_phrase}{redirect}", content, wait_s)
        if len(content) > self._max_bytes:
            raise Unanswered(f"answered with more than {self._max_bytes} bytes (max_response_bytes)")
        kind = response.headers.get("Content-Type", "no content type").partition(";")[0].strip().lower()
        if not (kind == "application/json" or kind.endswith("+json")):
            raise self._unanswered(f"answered with {kind}, not application/json", content)
        try:
            return from_json(content.removeprefix(codecs.BOM_UTF8))
        except ValueError as error:
            raise self._unanswered(f"answered with a text that is {error}", content) from None

    def _read(self, response: httpx2.Response, deadline: float, limit: int) -> bytes:
        """Read the body, or a little more than `limit` bytes of it; raises TimeoutError after the deadline."""
        content = bytearray()
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > limit:
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"more than {self._timeout_s:g} s (request_timeout_s)")
        return bytes(content)

    def _wait_s(self, asked_for: str | None) -> float:
        """Seconds until another try."""
        if asked_for is not None and asked_for.isdecimal():
            return min(float(asked_for), LONGEST_WAIT_S)
        longest = min(0.5 * 2.0 ** min(self._tries, 9), LONGEST_WAIT_S)  # a power of any number of tries is no float
        return longest * random.SystemRandom().uniform(0.5, 1.0)

    def _unanswered(self, what: str, content: bytes, retry_after_s: float | None = None) -> Unanswered:
        """The error, with the beginning of the answer's content."""
        text = " ".join(self._without_token(content.decode("utf-8", "replace")).split())
        return Unanswered(self._without_token(what) + (f": {text[:SHOWN]}" if text else ""), retry_after_s)

    def _without_token(self, text: str) -> str:
        """The text without the token, which a server may repeat."""
        return text.replace(self._token, "***") if self._token else text
