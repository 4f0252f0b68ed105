"""An HTTP server for scrapes that no client can hold up for the others.

A connection has a thread. It is closed when it is older than `MAX_AGE_S`, however slowly its client
sends or reads, and the oldest is closed when there are more than `MAX_CONNECTIONS`.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

#: A scrape is answered within about two seconds; Prometheus waits for 10 by default.
MAX_AGE_S = 20.0
MAX_CONNECTIONS = 512


def serve(app: Any, address: str, port: int) -> tuple[WSGIServer, threading.Thread]:
    """Serve a WSGI app from a daemon thread; returns the server and the thread.

    Raises `OSError` if it cannot listen.
    """
    family, *_, where = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    kind = type("_Server", (_Server,), {"address_family": family})
    server: WSGIServer = kind(where[:2], _Handler)
    server.set_app(app)
    thread = threading.Thread(target=server.serve_forever, name="scrapes", daemon=True)
    thread.start()
    return server, thread


class _Handler(WSGIRequestHandler):
    #: Seconds for one read or write; the server closes what is too old altogether.
    timeout = 10.0

    def log_message(self, *_: Any) -> None:
        """Log nothing: a scrape each few seconds is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    #: Scrapes that arrive at the same moment wait here to be accepted.
    request_queue_size = 512

    def __init__(self, *args: Any) -> None:
        #: When each open connection was accepted, the oldest first.
        self._accepted: dict[Any, float] = {}
        self._lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            excess = max(0, len(self._accepted) + 1 - MAX_CONNECTIONS)
            _hang_up(list(self._accepted)[:excess])
            self._accepted[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Close connections that are too old; called each half second."""
        since = time.monotonic() - MAX_AGE_S
        with self._lock:
            _hang_up([each for each, at in self._accepted.items() if at < since])

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._accepted.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away, or whose connection was closed."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _hang_up(connections: list[Any]) -> None:
    """End the reads and writes of the connections' threads, which then close them."""
    for connection in connections:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
