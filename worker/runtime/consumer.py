"""Celery's consumer, with a heartbeat that cannot block the worker, and patient with Redis."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from celery.exceptions import WorkerTerminate
from celery.worker import consumer, heartbeat
from celery.worker.consumer import heart

#: Celery's name for the step that `Heart` replaces.
CELERYS_HEART = "celery.worker.consumer.heart:Heart"
#: Seconds between two connections.
RESTART_INTERVAL_S = 1.0


class TryOnce:
    """An event dispatcher that sends each event without retries."""

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher

    def send(self, event: str, **fields: Any) -> Any:
        """Send an event without a retry, even if the caller asks for one."""
        return self._dispatcher.send(event, **fields | {"retry": False})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dispatcher, name)


class Heart(heart.Heart):
    """Replaces Celery's step that sends heartbeats.

    Celery sends them from the main loop and retries without a limit. If Redis accepted connections
    but never answered, the loop would freeze and ignore SIGTERM. A heartbeat needs no retry.
    """

    def start(self, consumer: Any) -> None:
        """Start to send heartbeats."""
        dispatcher = TryOnce(consumer.event_dispatcher)
        consumer.heart = heartbeat.Heart(consumer.timer, dispatcher, self.heartbeat_interval)
        consumer.heart.start()


def _replace_heart(steps: Iterable[Any]) -> list[Any]:
    """Return the steps with our `Heart`. Raises `ValueError` if Celery's is not among them."""
    replaced = list(steps)
    replaced[replaced.index(CELERYS_HEART)] = Heart
    return replaced


class PatientRestarts:
    """Waits before a consumer connects again, if it has done so within the last second.

    If Redis is full or a replica, a consumer connects, and then fails at its first write. Celery
    would repeat this ten times per second, and log a traceback each fifth time.
    """

    def __init__(self) -> None:
        self._connected_at = -math.inf

    def step(self) -> None:
        """Wait until the consumer may connect again."""
        if time.monotonic() - self._connected_at < RESTART_INTERVAL_S:
            time.sleep(RESTART_INTERVAL_S)
        self._connected_at = time.monotonic()


class Consumer(consumer.Consumer):
    """Celery's consumer with our `Heart`, `PatientRestarts` and an exit code after a fault."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._restart_state = PatientRestarts()

    def start(self) -> None:
        """Consume messages until the worker stops."""
        try:
            super().start()
        except WorkerTerminate as error:
            # Celery aborts when there are too many open files, but forgets the exit code. With 0,
            # a supervisor would not start the worker again.
            if isinstance(error.__cause__, OSError):
                self.controller.exitcode = error.code
            raise

    class Blueprint(consumer.Consumer.Blueprint):
        """The steps of the consumer."""

        default_steps = _replace_heart(consumer.Consumer.Blueprint.default_steps)
