"""Serve scrapes over HTTP, so that no client can block the others.

Each connection has a thread. A connection is closed when it is too old, even if its client is still
sending or reading. The oldest is closed when there are too many.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


@dataclass(frozen=True)
class Limits:
    """The limits of the server's connections."""

    #: A scrape takes about two seconds; Prometheus waits 10 by default.
    max_age_s: float = 20.0
    max_connections: int = 512


DEFAULT_LIMITS = Limits()


def serve(app: Any, address: str, port: int, limits: Limits) -> tuple[WSGIServer, threading.Thread]:
    """Serve a WSGI app from a daemon thread; return the server and the thread.

    Raises `OSError` if it cannot listen.
    """
    family, *_, resolved = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    server = _Server(family, resolved[:2], limits)
    server.set_app(app)
    thread = threading.Thread(target=server.serve_forever, name="scrapes", daemon=True)
    thread.start()
    return server, thread


class _RequestHandler(WSGIRequestHandler):
    #: Seconds for one read or write; the server limits the age of the whole connection.
    timeout = 10.0

    def log_message(self, *_: Any) -> None:
        """Do not log requests, because scrapes arrive every few seconds."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    #: The number of connections that may wait to be accepted when many scrapes arrive at once.
    request_queue_size = 512

    def __init__(self, family: socket.AddressFamily, address: Any, limits: Limits) -> None:
        self.address_family = family
        self._limits = limits
        #: When each open connection was accepted, oldest first.
        self._accepted_at: dict[Any, float] = {}
        self._lock = threading.Lock()
        super().__init__(address, _RequestHandler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            excess = max(0, len(self._accepted_at) + 1 - self._limits.max_connections)
            _shut_down(list(self._accepted_at)[:excess])
            self._accepted_at[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Close connections that are too old; `serve_forever` calls this twice a second."""
        oldest = time.monotonic() - self._limits.max_age_s
        with self._lock:
            _shut_down([each for each, at in self._accepted_at.items() if at < oldest])

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._accepted_at.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of clients that disconnected, or whose connection was closed."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _shut_down(connections: list[Any]) -> None:
    """End the reads and writes of the connections, so that their threads close them."""
    for connection in connections:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
