"""Check bearer tokens, in constant time."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence

from contract.errors import InvalidInput

#: Paths that need no token: probes send none.
OPEN_PATHS = ("/healthz", "/readyz")


def is_allowed(authorization: str | None, tokens: Sequence[str]) -> bool:
    """Return whether a header `Authorization` has one of the tokens; any is fine without tokens."""
    if not tokens:
        return True
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        return False
    given_bytes = given.strip().encode()
    # Compare with every token, so that the time depends on none of them.
    found = [hmac.compare_digest(given_bytes, token.encode()) for token in tokens]
    return any(found)


def check_exposure(host: str, tokens: Sequence[str]) -> None:
    """Raise `InvalidInput` if the service would be open to other machines without a token."""
    if tokens or is_loopback(host):
        return
    raise InvalidInput(
        f"--host {host} is reachable from other machines: set RERANKQ_HTTP_TOKEN, or listen on"
        " 127.0.0.1"
    )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
