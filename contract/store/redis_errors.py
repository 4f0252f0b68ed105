"""Translate the errors of redis-py, in one place."""

from __future__ import annotations

import re
import ssl

import redis
from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.exceptions import ClusterError, MovedError
from redis.sentinel import MasterNotFoundError

from contract import redis_tls
from contract.errors import ClientUnusable, InvalidInput, RedisRefused, RedisUnavailable
from contract.redis_url import NO_CLUSTER
from contract.settings import Settings

#: Prefixes of replies that refuse a command temporarily: during a start or a failover, or while the
#: disk is full. If redis-py has an error class for a reply, it removes the first word.
PASSING = (
    *("MISCONF", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY", "LOADING"),
    *("READONLY", "You can't write against a read only replica", "UNBLOCKED"),
)
#: After these errors, the idle connections of a pool are closed too. Their server may hang,
#: or be a replica since a failover, and each of them would otherwise fail once.
DISCONNECTING = (redis.TimeoutError, redis.exceptions.ReadOnlyError)
#: redis-py raises these for arguments that it cannot encode, before it sends anything.
UNENCODABLE = (redis.DataError, UnicodeEncodeError)


def closed_error() -> ClientUnusable:
    """Return the error for a call on a closed client."""
    return ClientUnusable("the client is closed; create a new one")


def unencodable(error: redis.DataError | UnicodeEncodeError) -> InvalidInput:
    """Return the error for an argument that cannot be sent, such as an id of another type."""
    if isinstance(error, UnicodeEncodeError):
        return InvalidInput("an id or text has a lone surrogate, which is not Unicode")
    return InvalidInput(f"an argument cannot be sent to Redis: {str(error).partition('.')[0]}")


def translate(error: redis.RedisError, settings: Settings) -> RedisUnavailable:
    """Return rerankq's error for an error of redis-py."""
    location = settings.redis_location
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return RedisUnavailable(
            f"Redis at {location} has no memory left (maxmemory); try again later"
        )
    if isinstance(error, redis.exceptions.AuthenticationError):
        return RedisUnavailable(
            f"Redis at {location} refused the login ({error}); check the user and password in"
            " RERANKQ_REDIS_URL, and percent-encode every character except letters and digits"
        )
    if isinstance(error, (MasterNotFoundError, AsyncMasterNotFoundError)):
        return RedisUnavailable(_no_primary(error, location))
    if (failure := redis_tls.find_tls_error(error)) is not None:
        return RedisUnavailable(
            f"TLS connection to Redis at {location} failed: {_tls_advice(failure)}"
        )
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return RedisUnavailable(
            f"Redis at {location} does not answer ({error}); check that it is running and that"
            " RERANKQ_REDIS_URL is correct"
        )
    # In a pipeline, redis-py puts the command before the reply.
    said = str(error).rpartition(" of pipeline caused error: ")[2]
    if said.startswith(PASSING):
        return RedisUnavailable(f"Redis at {location} refused the command: {said}")
    advice = _refusal_advice(error, said)
    return RedisRefused(f"Redis at {location} refused the command: {advice}")


def _no_primary(error: redis.RedisError, location: str) -> str:
    """Return a message for the case that no sentinel names a primary."""
    # Kombu's connections name the objects of redis-py that asked.
    said = re.sub(r"<redis\.\S+\(.*?\)>\)>\)> - ", "", str(error))
    return (
        f"no sentinel of {location} names a primary ({said}); a failover may be under way. If this"
        " lasts, check master_name, sentinel_password and the sentinels in RERANKQ_REDIS_URL"
    )


def _refusal_advice(error: redis.RedisError, said: str) -> str:
    """Return Redis' message, and the fix if it is known."""
    if "WRONGTYPE" in said:
        return f"{said}. Another program has overwritten a key of rerankq; delete that key"
    if isinstance(error, redis.exceptions.NoPermissionError):
        return f"{said}. See deploy/users.acl for the permissions that rerankq needs"
    if isinstance(error, (ClusterError, MovedError)) or "same slot" in said:
        return f"{said}. {NO_CLUSTER}"
    if "unknown command" in said:
        return (
            f"{said}. If this is the address of a sentinel, use"
            " sentinel://HOST:PORT,HOST:PORT/0?master_name=NAME"
        )
    return said


def _tls_advice(failure: ssl.SSLError) -> str:
    """Return the TLS message, and the fix."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        return (
            f"the certificate is not trusted ({failure.verify_message}). The host name in"
            " RERANKQ_REDIS_URL must match the certificate. For a private authority, add"
            f" ?{redis_tls.CA_CERTS}=FILE to the URL"
        )
    return (
        f"{failure.reason or failure}. Check that the port uses TLS. If the server requires a"
        f" client certificate, add ?{redis_tls.CERTFILE}=FILE&{redis_tls.KEYFILE}=FILE to"
        " RERANKQ_REDIS_URL"
    )
