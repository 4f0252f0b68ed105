"""Celery's consumer, whose heartbeat does not hold up the worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery.worker import consumer, heartbeat
from celery.worker.consumer import heart

#: How Celery names the step that `Heart` stands for.
CELERYS_HEART = "celery.worker.consumer.heart:Heart"


class TryOnce:
    """An event dispatcher that tries once to send an event."""

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher

    def send(self, event: str, **fields: Any) -> Any:
        """Send an event; another try is not made, whatever the caller says."""
        return self._dispatcher.send(event, **fields | {"retry": False})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dispatcher, name)


class Heart(heart.Heart):
    """Celery's step that sends heartbeats, in its place.

    Celery sends them from the main loop and tries again without an end: a Redis that accepts and
    never answers would freeze the loop, deaf to SIGTERM. One try is enough for a heartbeat.
    """

    def start(self, consumer: Any) -> None:
        """Begin to send heartbeats."""
        dispatcher = TryOnce(consumer.event_dispatcher)
        consumer.heart = heartbeat.Heart(consumer.timer, dispatcher, self.heartbeat_interval)
        consumer.heart.start()


def _replace_heart(steps: Iterable[Any]) -> list[Any]:
    """Return the steps with our `Heart`. Raises `ValueError` if Celery's is not among them."""
    replaced = list(steps)
    replaced[replaced.index(CELERYS_HEART)] = Heart
    return replaced


class Consumer(consumer.Consumer):
    """Celery's consumer with our `Heart`."""

    class Blueprint(consumer.Consumer.Blueprint):
        """The steps of a consumer."""

        default_steps = _replace_heart(consumer.Consumer.Blueprint.default_steps)
