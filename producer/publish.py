"""Puts messages on the queue, and asks who is listening. The seam where Celery's errors end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from contract import jobs, names
from contract.errors import RedisUnavailable
from contract.settings import Settings
from contract.store import translate


class Publisher:
    """A Celery app that only sends.

    It has no result backend: with one, publishing would subscribe to each result, and block for
    about twenty seconds when Redis is away.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        keys = names.Keys(settings.namespace)
        self._queue = keys.queue
        # Not the process's current app: the program that embeds us may have its own.
        self._app = Celery("rerankq.producer", set_as_current=False, backend="disabled://")
        self._app.conf.update(names.celery_options(settings))
        self._app.conf.update(
            broker_connection_timeout=settings.redis_timeout_s,
            broker_connection_retry=False,
            # One more try, for a pooled connection that was closed meanwhile.
            task_publish_retry_policy={"max_retries": 1, "interval_start": 0},
        )
        self._app.conf.broker_transport_options |= {
            "socket_timeout": settings.redis_timeout_s,
            "socket_connect_timeout": settings.redis_timeout_s,
            "socket_keepalive": True,
            "client_name": "rerankq-producer",
            # What workers hold is not a producer's to give back, which kombu would do while it
            # waits for a reply.
            "unacked_key": keys.unacked_by_producers,
            "unacked_index_key": f"{keys.unacked_by_producers}:index",
            "unacked_mutex_key": f"{keys.unacked_by_producers}:mutex",
            # Kombu's own attempts to connect, before any of Celery's policies come to bear.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
        }

    def send(self, job: jobs.Job, priority: int) -> None:
        """Put the job's message on the queue: its id and counts, never its documents.

        `priority` is 0 (first) to 9. Raises `RedisUnavailable`; then the message may or may not
        have been sent.
        """
        with self._translated():
            self._app.send_task(
                names.SCORE_TASK,
                args=(job.id,),
                kwargs={"requests": len(job.requests), "pairs": job.pairs},
                task_id=job.id,
                queue=self._queue,
                priority=priority,
            )

    def workers(self, timeout_s: float = 1.0, at_most: int | None = None) -> tuple[str, ...]:
        """Names of the workers that answer within `timeout_s`, or of the first `at_most` of them.

        Raises `RedisUnavailable`.
        """
        with self._translated():
            try:
                replies = self._ping(timeout_s, at_most)
            except redis.ConnectionError:
                # A pooled connection that was closed meanwhile: waiting for replies, kombu does
                # not try again as it does when publishing.
                replies = self._ping(timeout_s, at_most)
        return tuple(sorted(name for reply in replies for name in reply))

    def close(self) -> None:
        """Let go of the app. Its few connections are kombu's, which keeps them for the process:
        another publisher may be using them, and the next one will.
        """
        self._app.close()

    def _ping(self, timeout_s: float, at_most: int | None) -> list[dict[str, Any]]:
        replies = self._app.control.broadcast("ping", reply=True, timeout=timeout_s, limit=at_most)
        return replies or []

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Kombu wraps most of redis-py's errors in its own, but not all."""
        try:
            yield
        except redis.RedisError as error:
            raise translate(error, self._settings) from error
        except OperationalError as error:
            if isinstance(error.__cause__, redis.RedisError):
                raise translate(error.__cause__, self._settings) from error
            raise RedisUnavailable(
                f"Redis at {self._settings.redis_location} does not take messages ({error})"
            ) from error
