"""Run the application with uvicorn."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from typing import Any

import uvicorn

from contract.errors import RerankError
from producer.http import auth
from producer.http.app import create_app
from producer.http.settings import HttpSettings

logger = logging.getLogger(__name__)

#: How long requests may go on after the service is stopped, before their jobs are cancelled.
GRACE_S = 8
#: The number of connections that may wait to be accepted.
BACKLOG = 2048


def serve(settings: HttpSettings, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises `InvalidInput`, or `RerankError` if it cannot listen.

    After the signal, it accepts no connection, and answers the requests that it has.
    """
    auth.check_exposure(host, settings.http_tokens)
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=GRACE_S,
        backlog=BACKLOG,
    )
    with _listen(host, port) as listener:
        _log_to_standard_error()
        # uvicorn raises the signal again after it has stopped, which would otherwise be an error.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        logger.info("Listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
        uvicorn.Server(config).run(sockets=[listener])


def _log_to_standard_error() -> None:
    logging.basicConfig(
        level=logging.INFO,
        format="[%(asctime)s: %(levelname)s] %(message)s",
        stream=sys.stderr,
        force=True,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With the protocol, because asyncio otherwise does not turn off Nagle's algorithm, which
        # delays answers by up to 40 ms.
        return _bound(socket.socket(family, kind, protocol), address)
    except OSError as error:
        raise RerankError(
            f"cannot listen on {host}:{port} ({error.strerror}): choose another --port"
        ) from error


def _bound(listener: socket.socket, address: Any) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener
