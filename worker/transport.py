"""Kombu's transport for Redis, outliving what lies on the queue and is no message.

Kombu and Celery parse what they take from the queue in the worker's main loop. What is no JSON, or
not shaped like kombu's envelope, or holds what is not shaped like a task, would end the worker with
an error from deep inside; and a message goes back to the queue when a worker ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import Empty
from typing import Any

from kombu.transport import redis, virtual

logger = logging.getLogger(__name__)


#: What comes of taking for granted that data has a certain shape.
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class NotAMessage(ValueError):
    """What was taken from the queue is none of kombu's envelopes."""


class Message(virtual.Message):
    """An envelope that has all that kombu and Celery count on."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **kwargs)
            _ = self.delivery_info["exchange"], self.delivery_info["routing_key"]
            # Kombu files it under the one, and notes in the other that it is delivered again.
            sound = isinstance(self.delivery_tag, str) and isinstance(payload["headers"], dict)
        except MALFORMED as error:
            raise NotAMessage(repr(error)) from error
        if not sound:
            raise NotAMessage("its delivery tag is no string, or its headers are no object")


class Channel(redis.Channel):
    """Throws away what is no message, or none of Celery's, and says so."""

    Message = Message

    #: Whether it takes messages that it has to acknowledge.
    holds_messages = False

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], object], *args: Any, **kwargs: Any
    ) -> Any:
        """As kombu's, with a callback that may fail for one message alone."""

        def surviving(message: Any) -> None:
            try:
                callback(message)
            except MALFORMED:
                logger.exception("Thrown away, being no task's message: %r", message)
                if not (no_ack or message.acknowledged):
                    message.reject()

        self.holds_messages |= not no_ack
        return super().basic_consume(queue, no_ack, surviving, *args, **kwargs)

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (ValueError, RecursionError) as error:
            logger.error("Thrown away, being no message: an entry of the queue (%r)", error)
            raise Empty from error


class Poller(redis.MultiChannelPoller):
    """Gives back to the queue what dead workers held, in workers only.

    Kombu would do so wherever anything is awaited. Flower, and who asks the workers something, have
    no right to the messages that workers hold.
    """

    def maybe_restore_messages(self) -> None:
        if any(channel.holds_messages for channel in self._channels):
            super().maybe_restore_messages()


class Transport(redis.Transport):
    """Stands in the place of kombu's own: see `worker.celery`."""

    Channel = Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()
