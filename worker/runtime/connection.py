"""This process's connection to Redis, and how long it insists."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import redis
from billiard.exceptions import SoftTimeLimitExceeded
from celery import signals
from redis.backoff import NoBackoff
from redis.retry import Retry

from contract import environment, redis_tls
from contract.errors import RedisRefused, RedisUnavailable, RerankError
from contract.store.blocking import JobStore
from contract.store.operation import Operation
from contract.store.schema import Schema
from worker.runtime.app import settings

T = TypeVar("T")

logger = logging.getLogger(__name__)

schema = Schema(settings)

#: Between two tries of what has to be done.
PAUSE_S = 1.0
#: A child waits for a reply; the main process has others to look after.
CHILD_TIMEOUT_S = 10.0
MAIN_TIMEOUT_S = 2.5


@signals.celeryd_after_setup.connect
def _warn_of_no_checks(**_: Any) -> None:
    tls_options = settings.redis_tls
    if tls_options is None:
        return
    for unchecked, off in ((redis_tls.CERT_REQS, "none"), (redis_tls.CHECK_HOSTNAME, False)):
        if tls_options[unchecked] == off:
            logger.warning(
                "Whoever is between here and %s can read and change all: RERANKQ_REDIS_URL turns"
                " off %s",
                settings.redis_location,
                unchecked,
            )


@signals.celeryd_after_setup.connect
def _warn_of_unknown_variables(**_: Any) -> None:
    # The variables of commands usually stand in the same file.
    ours = (name for name in os.environ if not name.startswith(environment.COMMAND_PREFIXES))
    for warning in environment.unknown_variables(
        ours, map(environment.variable, type(settings).model_fields)
    ):
        logger.warning("%s", warning)


@cache
def store(timeout_s: float) -> JobStore:
    """This process's store; a server that says nothing is given up after `timeout_s`."""
    client = redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=timeout_s,
        socket_connect_timeout=min(5.0, timeout_s),
        socket_keepalive=True,
        health_check_interval=30,
        # Once more, for a connection that was closed meanwhile.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        client_name="rerankq-store",
    )
    return JobStore(client, schema)


def retry_until_available(operation: Operation[T]) -> T:
    """Run the operation in a child, however long Redis is away.

    Scores that cannot be put on record must not become a failure, nor may the time limit's signal
    keep them from it. Raises `RedisUnavailable` after RERANKQ_TIME_LIMIT_S, and `RedisRefused` at
    once.
    """
    began = time.monotonic()
    while True:
        with suppress(SoftTimeLimitExceeded):
            try:
                return store(CHILD_TIMEOUT_S).execute(operation)
            except RedisRefused:
                raise
            except RedisUnavailable as error:
                if time.monotonic() - began > settings.time_limit_s:
                    raise
                logger.warning("Waiting for Redis: %s", error)
                # After a failover, an open connection may still lead to what is a replica now.
                # Not those that other threads are using.
                store(CHILD_TIMEOUT_S).client.connection_pool.disconnect(inuse_connections=False)
                time.sleep(PAUSE_S)


def best_effort(operation: Operation[T]) -> T | None:
    """Run the operation in the main process, or go on without; None then."""
    try:
        return store(MAIN_TIMEOUT_S).execute(operation)
    except RerankError as error:
        logger.warning("Not put on record: %s", error)
        return None
