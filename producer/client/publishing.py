"""Put the messages of jobs on the queue, and ask workers; translate Celery's errors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import redis
from celery import Celery
from kombu import Connection, Producer
from kombu.exceptions import BatchPublishError, OperationalError

from contract import jobs, names
from contract.columns import JobColumns
from contract.errors import RedisUnavailable
from contract.settings import Settings
from contract.store.redis_errors import closed_error, translate
from producer.client.broker_connections import BrokerConnectionPool
from producer.client.celery_app import publisher_app
from producer.client.worker_inspector import WorkerInspector, WorkerReadiness


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
            return self._own_sender().workers.names(timeout_s, at_most)

    def readiness(
        self, timeout_s: float = 1.0, at_most: int | None = None
    ) -> dict[str, WorkerReadiness]:
        """Return the readiness of each worker that answers, by name: see `workers`."""
        with self._translated():
            return self._own_sender().workers.readiness(timeout_s, at_most)

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
        self._messages = _MessageSender(self._app, names.Keys(settings.namespace).queue)
        self._pool = BrokerConnectionPool(self._connect, settings)
        self.workers = WorkerInspector(settings, self._connect)

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

    def close(self) -> None:
        self._pool.close()
        self._app.close()

    def _connect(self) -> Connection:
        # The URL is given, because CELERY_BROKER_URL would otherwise take precedence.
        return self._app.connection_for_write(self._settings.redis_server)


class _MessageSender:
    """Sends messages over any connection: the id and the counts of a job, never its documents."""

    def __init__(self, app: Celery, queue: str) -> None:
        self._app = app
        self._queue = queue

    def message(self, job: jobs.Job | JobColumns) -> Any:
        """Return the message of a job."""
        requests = job.queries if isinstance(job, JobColumns) else job.requests
        arguments = (job.id,)
        counts = {"requests": len(requests), "pairs": job.pairs}
        return self._app.amqp.create_task_message(
            job.id,
            names.SCORE_TASK,
            arguments,
            counts,
            reply_to=self._app.thread_oid,
            # The job is not linked to a Celery task that may be the caller.
            root_id=job.id,
            ignore_result=None,
            create_sent_event=self._app.conf.task_send_sent_event,
            # Celery's own representations take a fifth of the time of a message.
            argsrepr=repr(arguments),
            kwargsrepr=repr(counts),
        )

    def send(
        self,
        connection: Connection,
        messages: Sequence[Any],
        priority: int,
        trace: Mapping[str, str],
    ) -> None:
        """Send messages, in order and in one round trip.

        Raises errors of kombu and redis-py; some messages may then have been sent.
        """
        amqp = self._app.amqp
        producer = amqp.Producer(connection, auto_declare=False)
        queue = amqp.queues[self._queue]
        producer.maybe_declare(queue)
        sent = _SentEvents()
        # The limit is not reached, so that all are sent at the end of the block.
        with producer.batch(max_size=len(messages) + 1):
            for message in messages:
                amqp.send_task_message(
                    producer,
                    names.SCORE_TASK,
                    message,
                    queue=queue,
                    declare=[],
                    retry=False,
                    priority=priority,
                    headers=dict(trace),
                    event_dispatcher=sent,
                )
        # As with `send_task`, Flower may miss an event, but the job is on the queue.
        with suppress(BatchPublishError, redis.RedisError):
            self._publish(producer, connection, sent)

    def _publish(self, producer: Producer, connection: Connection, sent: _SentEvents) -> None:
        dispatcher = self._app.events.Dispatcher(
            connection, enabled=False, buffer_while_offline=False
        )
        with producer.batch(max_size=len(sent.events) + 1):
            for kind, fields in sent.events:
                dispatcher.publish(kind, fields, producer)


class _SentEvents:
    """Collects the events that Celery's dispatcher would publish one after the other."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def publish(self, kind: str, fields: dict[str, Any], *_: Any, **__: Any) -> None:
        """Collect an event."""
        self.events.append((kind, fields))
