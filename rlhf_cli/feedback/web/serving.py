"""A port on this machine, a link with a token, and a server until Ctrl-C."""

import secrets
import socket
from collections.abc import Callable

import uvicorn

from rlhf_cli.errors import UserError
from rlhf_cli.feedback.web.guard import App

HOST = "127.0.0.1"


def serve(build: Callable[[str, int], App], port: int, ready: Callable[[str], None]) -> None:
    """Serve `build(token, port)`, and give its link to `ready`. Port 0 is any that is free.

    Raises UserError where the port cannot be had, and KeyboardInterrupt at the end.
    """
    token = secrets.token_urlsafe(24)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen()
        except OSError as error:
            what = f"port {port} cannot be had: {error.strerror}"
            raise UserError(what, where="--port", fix="leave --port out, and any free one is taken") from error
        port = listener.getsockname()[1]
        ready(f"http://{HOST}:{port}/?token={token}")
        config = uvicorn.Config(
            build(token, port),
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            access_log=False,
            server_header=False,
            log_level="error",
            timeout_graceful_shutdown=1,
        )
        uvicorn.Server(config).run(sockets=[listener])
