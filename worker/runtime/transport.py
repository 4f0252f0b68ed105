"""Kombu's transport for Redis, hardened against malformed entries of the queue.

Kombu and Celery parse messages in the worker's main loop. Some messages would end the
worker with an internal error, or use up its memory. These are not JSON, do not have the shape of
kombu's envelope, or differ from those of our producers. And when a worker ends, its message goes
back to the queue.

The times when workers took their messages are by the clock of Redis, because other machines compare
them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Any

from kombu.transport import redis, virtual
from kombu.utils.json import dumps
from redis import Redis
from redis.client import PubSub
from redis.exceptions import ResponseError

from contract import names
from worker.runtime import envelope, turns
from worker.runtime.envelope import InvalidMessage

logger = logging.getLogger(__name__)


#: Errors of code that assumes a certain shape of data.
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)

#: Maximum bytes of a remote control message or an event. Replies name every task of a worker.
MAX_BROADCAST_BYTES = 4 * 1024 * 1024

#: Messages of dead workers to restore to the queue in one check.
RESTORED_AT_ONCE = 100

#: Record that a worker has a message. KEYS index, messages; ARGV tag, message.
HOLD = """
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%d.%06d', time[1], time[2]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
"""


class Message(virtual.Message):
    """An envelope with all fields that kombu and Celery need; task messages must be ours."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        queue = getattr(channel, "task_queue", None)
        if queue is not None:
            payload = envelope.validate(payload, queue, channel.max_delay_s)
        try:
            # Kombu would decompress it before any check, whatever the resulting size.
            if payload["headers"].get("compression") is not None:
                raise InvalidMessage("it is compressed, which is not allowed")
            super().__init__(payload, channel=channel, **kwargs)
            _ = self.delivery_info["exchange"], self.delivery_info["routing_key"]
            # Kombu stores it under the delivery tag, and marks redelivery in the headers.
            usable = isinstance(self.delivery_tag, str) and isinstance(payload["headers"], dict)
        except MALFORMED as error:
            raise InvalidMessage(repr(error)) from error
        if not usable:
            raise InvalidMessage(
                "its delivery tag is not a string, or its headers are not an object"
            )


class QoS(redis.QoS):
    """Records by the clock of Redis which messages a worker has.

    Kombu uses the clock of each machine. A worker with a fast clock would repeatedly put all
    messages that others hold back on the queue.
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        info = message.delivery_info
        held = dumps([message._raw, info["exchange"], info["routing_key"]])
        with self.channel.conn_or_acquire() as client:
            client.eval(HOLD, 2, self.unacked_index_key, self.unacked_key, delivery_tag, held)
        virtual.QoS.append(self, message, delivery_tag)

    def restore_visible(
        self, start: int = 0, num: int | None = RESTORED_AT_ONCE, interval: int = 1
    ) -> None:
        """Put messages back on the queue that were taken before the visibility timeout."""
        with self.channel.conn_or_acquire() as client, suppress(redis.MutexHeld):
            taken_before = client.time()[0] - self.visibility_timeout
            with redis.Mutex(client, self.unacked_mutex_key, self.unacked_mutex_expire):
                tags = client.zrange(
                    self.unacked_index_key,
                    0,
                    taken_before,
                    byscore=True,
                    offset=start,
                    num=num or RESTORED_AT_ONCE,
                )
                for tag in tags:
                    self.restore_by_tag(tag, client)


class _PubSub(PubSub):
    """A subscription that rejects messages too large to parse."""

    def parse_response(self, *args: Any, **kwargs: Any) -> Any:
        response = super().parse_response(*args, **kwargs)  # type: ignore[no-untyped-call]
        data = response[-1] if response else None
        if isinstance(data, bytes) and len(data) > MAX_BROADCAST_BYTES:
            raise InvalidMessage(f"it is larger than {MAX_BROADCAST_BYTES:,} bytes")
        return response


class _Client(Redis):
    """A client that rejects entries of the queue that are too large to parse."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        response = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name == "BRPOP" and response and len(response[1]) > envelope.MAX_BYTES:
            raise InvalidMessage(
                f"it has {len(response[1]):,} bytes (maximum {envelope.MAX_BYTES:,})"
            )
        return response

    def pubsub(self, **options: Any) -> _PubSub:
        return _PubSub(self.connection_pool, **options)


class Channel(redis.Channel):
    """Discards messages that are malformed or not Celery's, and logs them."""

    Message = Message
    QoS = QoS

    from_transport_options = (*redis.Channel.from_transport_options, "max_delay_s")

    #: Maximum delay of a retried message, in seconds.
    max_delay_s = 0.0

    #: The queue from which it takes and acknowledges messages; None for remote control and events.
    task_queue: str | None = None

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], object], *args: Any, **kwargs: Any
    ) -> Any:
        """Consume as kombu does, with a callback that rejects a malformed message."""

        def drop_if_malformed(message: Any) -> None:
            try:
                callback(message)
            except MALFORMED:
                logger.exception("Discarding a message that Celery could not handle: %r", message)
                if not (no_ack or message.acknowledged):
                    message.reject()

        consumer = super().basic_consume(queue, no_ack, drop_if_malformed, *args, **kwargs)
        if not no_ack:
            self.task_queue = queue
            deliver, keys = self.connection._callbacks[queue], names.Keys(queue)

            def deliver_in_turn(payload: Any) -> None:
                if isinstance(payload, dict):  # anything else is rejected
                    with self.conn_or_acquire() as client:
                        payload = turns.in_turn(client, keys, payload)
                    if payload is None:
                        return
                deliver(payload)

            self.connection._callbacks[queue] = deliver_in_turn
        return consumer

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (ValueError, RecursionError) as error:
            logger.error("Discarding a malformed message from the queue: %s", error)
            raise Empty from error

    def _receive_one(self, c: Any) -> Any:
        try:
            return super()._receive_one(c)
        except MALFORMED as error:
            logger.error("Ignoring a malformed broadcast message: %r", error)
            raise Empty from error

    def _get_client(self) -> Any:
        return _Client


class Poller(redis.MultiChannelPoller):
    """Puts messages of dead workers back on the queue, in workers only.

    Kombu would do so in every process that waits for a message. Flower and clients that query
    workers must not touch the messages that workers hold.
    """

    def maybe_restore_messages(self) -> None:
        if not any(channel.task_queue is not None for channel in self._channels):
            return
        try:
            super().maybe_restore_messages()
        except ResponseError as error:
            logger.warning("Failed to return messages of dead workers to the queue: %s", error)


class Transport(redis.Transport):
    """Kombu's transport with the classes above."""

    Channel = Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()


class SentinelChannel(Channel, redis.SentinelChannel):
    """Such a channel to the primary that Sentinel names."""

    from_transport_options = (
        *redis.SentinelChannel.from_transport_options,
        *Channel.from_transport_options,
    )


class SentinelTransport(Transport, redis.SentinelTransport):
    """Such a transport to the primary that Sentinel names."""

    Channel = SentinelChannel
