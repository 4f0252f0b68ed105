"""Put the messages of jobs on the queue: as `send_task` of Celery does, but several together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import redis
from celery import Celery
from kombu import Connection, Producer
from kombu.exceptions import BatchPublishError

from contract import jobs, names
from contract.columns import JobColumns


class MessageSender:
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
