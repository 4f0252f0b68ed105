"""Put messages on the queue, and find the workers that answer; translate Celery's errors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from kombu import Connection
from kombu.exceptions import BatchPublishError, OperationalError
from kombu.pidbox import Mailbox

from contract import jobs, names
from contract.columns import JobColumns
from contract.errors import RedisUnavailable
from contract.settings import Settings
from contract.store.connection import POOL_WAIT_S
from contract.store.redis_errors import closed_error, translate
from producer.client.broker_connections import BrokerConnectionPool
from producer.client.celery_app import publisher_app
from producer.client.messages import MessageSender
from producer.client.single_flight import SingleFlight

#: If a process is killed while it asks the workers, its reply queue is removed after this time.
REPLY_QUEUE_EXPIRES_S = 10.0


@dataclass(frozen=True)
class WorkerReadiness:
    """The readiness of a worker: how many of its processes have loaded the model."""

    #: The number of processes that score.
    children: int
    #: How many of them have loaded the model.
    ready: int
    #: The model that scores jobs which name none.
    model: str
    #: What its processes have loaded: digests of `contract.scoring.ScoringIdentity` by model, ""
    #: for an unknown one; None if the worker does not tell.
    scorings: Mapping[str, Sequence[str]] | None = None


class Publisher:
    """Sends messages and asks workers, from any number of threads and in forked processes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closed = False
        self._sender = _Sender(settings)

    def send(
        self, job: jobs.Job | JobColumns, priority: int, trace: Mapping[str, str] | None = None
    ) -> None:
        """Put a job's message on the queue: see `send_all`."""
        self.send_all((job,), priority, trace)

    def send_all(
        self,
        several: Sequence[jobs.Job | JobColumns],
        priority: int,
        trace: Mapping[str, str] | None = None,
    ) -> None:
        """Put the messages of several jobs on the queue, in order and in one round trip.

        `priority` is 0 (first) to 9 (last). `trace` is added to the messages' headers. Raises
        `ClientUnusable` after `close`, or `RedisUnavailable`; a message may then have been sent or
        not.
        """
        with self._translated():
            self._own_sender().send(several, priority, trace or {})

    def workers(self, timeout_s: float = 1.0, at_most: int | None = None) -> tuple[str, ...]:
        """Return the names of the workers that answer within `timeout_s` seconds.

        If `at_most` is given, return as soon as that many have answered. Simultaneous identical
        calls share one answer. Raises `RedisUnavailable`, or `ClientUnusable` after `close`.
        """
        with self._translated():
            return self._own_sender().workers(timeout_s, at_most)

    def readiness(
        self, timeout_s: float = 1.0, at_most: int | None = None
    ) -> dict[str, WorkerReadiness]:
        """Return the readiness of each worker that answers, by name: see `workers`."""
        with self._translated():
            return self._own_sender().readiness(timeout_s, at_most)

    def close(self) -> None:
        """Close the connections; those in use are closed when their threads are done."""
        self._closed = True
        self._sender.close()

    def _own_sender(self) -> _Sender:
        """Return the sender of this process; a fork needs its own, without inherited locks."""
        if self._closed:
            raise closed_error()
        if self._sender.pid != os.getpid():
            self._sender = _Sender(self._settings)
        return self._sender

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate errors of kombu and redis-py; kombu wraps most of redis-py's, but not all."""
        try:
            yield
        except redis.RedisError as error:
            raise translate(error, self._settings) from error
        except OperationalError as error:
            if isinstance(error.__cause__, redis.RedisError):
                raise translate(error.__cause__, self._settings) from error
            raise RedisUnavailable(
                f"Redis at {self._settings.redis_location} does not accept messages ({error})"
            ) from error
        except BatchPublishError as error:
            if isinstance(error.__cause__, redis.RedisError):
                raise translate(error.__cause__, self._settings) from error
            raise
        except AttributeError as error:
            # Kombu uses a channel that it has closed after its connection was lost.
            if isinstance(error.__context__, redis.RedisError):
                raise translate(error.__context__, self._settings) from error
            raise


class _Sender:
    """A Celery app that only sends, with its connections, in one process."""

    def __init__(self, settings: Settings) -> None:
        self.pid = os.getpid()
        self._settings = settings
        self._app = publisher_app(settings)
        self._messages = MessageSender(self._app, names.Keys(settings.namespace).queue)
        self._pool = BrokerConnectionPool(self._connect, settings)
        self._workers = SingleFlight[dict[str, Any]](f"workers on {settings.redis_location}")

    def send(
        self, several: Sequence[jobs.Job | JobColumns], priority: int, trace: Mapping[str, str]
    ) -> None:
        # Other threads may wait for a connection, so the messages are made before it is taken.
        messages = [self._messages.message(job) for job in several]
        try:
            self._send_once(messages, priority, trace)
        except (BatchPublishError, redis.ConnectionError) as error:
            if not isinstance(error.__cause__ or error, redis.ConnectionError):
                raise
            # The pooled connection was closed. A message that is sent twice is scored once.
            self._send_once(messages, priority, trace)

    def _send_once(self, messages: Sequence[Any], priority: int, trace: Mapping[str, str]) -> None:
        with self._pool.connection() as connection:
            self._messages.send(connection, messages, priority, trace)

    def workers(self, timeout_s: float, at_most: int | None) -> tuple[str, ...]:
        return tuple(sorted(self._answers("ping", timeout_s, at_most)))

    def readiness(self, timeout_s: float, at_most: int | None) -> dict[str, WorkerReadiness]:
        answers = self._answers("readiness", timeout_s, at_most)
        return {
            name: WorkerReadiness(
                answer["children"], answer["ready"], answer["model"], answer.get("scorings")
            )
            for name, answer in answers.items()
        }

    def close(self) -> None:
        self._pool.close()
        self._app.close()

    def _answers(self, command: str, timeout_s: float, at_most: int | None) -> dict[str, Any]:
        return self._workers.get(
            (command, timeout_s, at_most),
            lambda: self._ask(command, timeout_s, at_most),
            timeout_s + POOL_WAIT_S,
        )

    def _ask(self, command: str, timeout_s: float, at_most: int | None) -> dict[str, Any]:
        # Without a pool, from which the mailbox would take a second connection.
        mailbox = Mailbox(
            self._settings.namespace,
            type="fanout",
            accept=["json"],
            serializer="json",
            queue_exclusive=False,
            reply_queue_expires=REPLY_QUEUE_EXPIRES_S,
        )
        with self._connect() as connection:
            replies = mailbox(connection).multi_call(command, timeout=timeout_s, limit=at_most)
        return {name: answer for reply in replies or () for name, answer in reply.items()}

    def _connect(self) -> Connection:
        # The URL is given, because CELERY_BROKER_URL would otherwise take precedence.
        return self._app.connection_for_write(self._settings.redis_server)
