"""Find and check ports of this machine's loopback address."""

from __future__ import annotations

import random
import socket
import urllib.error
import urllib.request
from contextlib import closing, suppress

from contract.errors import RerankError

ADDRESS = "127.0.0.1"
#: Linux, macOS and Windows give none of these ports to an outgoing connection, unless configured
#: otherwise. Such a connection could take the port before the server starts, or while it restarts.
SERVER_PORTS = range(20_000, 32_768)


def free_port() -> int:
    """Return a port that no process uses. Raises `RerankError` if there is none."""
    for port in random.SystemRandom().sample(SERVER_PORTS, len(SERVER_PORTS)):
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind((ADDRESS, port))
            return port
    raise RerankError(f"all ports from {SERVER_PORTS[0]} to {SERVER_PORTS[-1]} are in use")


def require_free(port: int, service: str, option: str) -> None:
    """Raise `RerankError`, which names the service and its option, if the port is in use."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            raise RerankError(
                f"port {port} for {service} cannot be used ({error.strerror});"
                f" choose another with {option}"
            ) from error


def is_healthy(url: str) -> bool:
    """Return whether a server answers at the URL with status 200."""
    try:
        with urllib.request.urlopen(url, timeout=2.0) as response:  # noqa: S310
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
