"""Translate the errors of redis-py, in one place."""

from __future__ import annotations

import ssl

import redis

from contract import redis_tls
from contract.errors import ClientUnusable, RedisRefused, RedisUnavailable
from contract.settings import Settings

#: Prefixes of replies that refuse a command temporarily: during a start or a failover, or while the
#: disk is full. If redis-py has an error class for a reply, it removes the first word.
PASSING = (
    *("MISCONF", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY", "LOADING"),
    *("READONLY", "You can't write against a read only replica", "UNBLOCKED"),
)


def closed_error() -> ClientUnusable:
    """Return the error for a call on a closed client."""
    return ClientUnusable("the client was closed: create another one")


def translate(error: redis.RedisError, settings: Settings) -> RedisUnavailable:
    """Return rerankq's error for an error of redis-py."""
    location = settings.redis_location
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return RedisUnavailable(f"Redis at {location} is full (maxmemory): try again later")
    if isinstance(error, redis.exceptions.AuthenticationError):
        return RedisUnavailable(
            f"Redis at {location} refuses the login ({error}): check user and password of"
            " RERANKQ_REDIS_URL, in which all but letters and digits are percent-encoded"
        )
    if (failure := redis_tls.find_tls_error(error)) is not None:
        return RedisUnavailable(f"TLS with Redis at {location} fails: {_tls_advice(failure)}")
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return RedisUnavailable(
            f"Redis at {location} does not answer ({error}):"
            " is it running, and is RERANKQ_REDIS_URL right?"
        )
    if str(error).startswith(PASSING):
        return RedisUnavailable(f"Redis at {location} refuses the command: {error}")
    return RedisRefused(f"Redis at {location} refuses the command: {_refusal_advice(error)}")


def _refusal_advice(error: redis.RedisError) -> str:
    """Return Redis' message, and the fix if it is known."""
    said = str(error)
    if "WRONGTYPE" in said:
        return f"{said}. A key has been overwritten by something else: delete it"
    if isinstance(error, redis.exceptions.NoPermissionError):
        return f"{said}. See deploy/users.acl for the rights that are needed"
    if "CROSSSLOT" in said:
        return f"{said}. Redis in cluster mode is not supported: use a single server"
    return said


def _tls_advice(failure: ssl.SSLError) -> str:
    """Return the TLS message, and the fix."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({failure.verify_message}). RERANKQ_REDIS_URL must"
            " have the host name of the certificate, and may end in"
            f" ?{redis_tls.CA_CERTS}=FILE with the certificate of its authority"
        )
    return (
        f"{failure.reason or failure}. Is it a port for TLS, and does it ask for a certificate"
        f" (?{redis_tls.CERTFILE}=FILE&{redis_tls.KEYFILE}=FILE in RERANKQ_REDIS_URL)?"
    )
