"""Let in whoever has the link, from this machine, by this page.

The link's token becomes a cookie that other sites cannot send (SameSite=Strict). A request that changes something also
needs the token in a header, which another page cannot read, and the Origin of this page. The Host must be this
machine's: a name that a stranger's DNS leads here (DNS rebinding) is refused.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse

LARGEST: Final = 2**14
"""Bytes of a request's body that are taken."""
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Guard:
    """An app around another: it refuses requests, and adds HEADERS to every answer."""

    def __init__(self, app: App, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._cookie = f"rlhf-label-{port}"  # cookies are shared by all ports of a host
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        app, headers = self._app, {"set-cookie": f"{self._cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/"}
        if refusal := self._why_refused(Request(scope)):
            status, reason = refusal
            app, headers = JSONResponse({"error": reason}, status), {}

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS | headers)
            await send(message)

        await app(scope, receive, send_guarded)

    def _why_refused(self, request: Request) -> tuple[int, str] | None:
        """The status and the reason; None where the request is let in."""
        if request.headers.get("host") not in self._hosts:
            return 403, "this address is not one of the page's"
        by_link = request.url.path == "/" and self._is_token(request.query_params.get("token"))
        if not (by_link or self._is_token(request.cookies.get(self._cookie))):
            return 403, "not the link that rlhf label printed"
        if request.method in ("GET", "HEAD"):
            return None
        if request.headers.get("origin") not in {f"http://{host}" for host in self._hosts}:
            return 403, "not from the page"
        if not self._is_token(request.headers.get("x-token")):
            return 403, "not from this page"
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return 415, "not JSON"
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LARGEST:
            return 413, f"more than {LARGEST} bytes"
        return None

    def _is_token(self, value: str | None) -> bool:
        return value is not None and hmac.compare_digest(value.encode(), self._token.encode())
