"""Kombu's transport for Redis, outliving what lies on the queue and is no message.

Kombu parses what it takes from the queue in the worker's main loop. What is no JSON, or not shaped
like kombu's envelope, would end the worker with an error from deep inside.
"""

from __future__ import annotations

import json
import logging
from queue import Empty
from typing import Any

from kombu.transport import redis, virtual

logger = logging.getLogger(__name__)


class NotAMessage(ValueError):
    """What was taken from the queue is none of kombu's envelopes."""


class Message(virtual.Message):
    """An envelope that has all that kombu and Celery count on."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **kwargs)
            _ = self.delivery_info["exchange"], self.delivery_info["routing_key"]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise NotAMessage(repr(error)) from error


class Channel(redis.Channel):
    """Throws away what is no message, and says so."""

    Message = Message

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (json.JSONDecodeError, UnicodeDecodeError, NotAMessage) as error:
            logger.error("Thrown away, being no message: an entry of the queue (%s)", error)
            raise Empty from error


class Transport(redis.Transport):
    """Stands in the place of kombu's own: see `worker.celery`."""

    Channel = Channel
