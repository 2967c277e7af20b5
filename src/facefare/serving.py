"""Serve over HTTP: a port is taken before anything else begins, and who can't have it hears a sentence."""

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

import uvicorn


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; raises OSError with a sentence."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), port), family=family)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise OSError(error.errno, f"Nothing can listen at {host}:{port}: {why}") from None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def server(app: Any, ready: Callable[[], None] = lambda: None, **more: Any) -> uvicorn.Server:
    """One that logs no call (a path with an id in it is personal data) and says when it answers."""
    return _Server(uvicorn.Config(app, log_config=None, access_log=False, **more), ready)


def run(app: Any, listener: socket.socket, ready: Callable[[], None], **more: Any) -> None:
    """Serve until SIGINT or SIGTERM."""
    with contextlib.suppress(KeyboardInterrupt):
        server(app, ready, **more).run(sockets=[listener])
