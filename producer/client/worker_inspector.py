"""Ask workers for their names and their readiness, as Celery's `inspect` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kombu import Connection
from kombu.pidbox import Mailbox

from contract.settings import Settings
from contract.store.connection import POOL_WAIT_S
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


class WorkerInspector:
    """Asks workers. Simultaneous identical calls share one answer."""

    def __init__(self, settings: Settings, connect: Callable[[], Connection]) -> None:
        self._settings = settings
        self._connect = connect
        self._calls = SingleFlight[dict[str, Any]](f"workers on {settings.redis_location}")

    def names(self, timeout_s: float, at_most: int | None) -> tuple[str, ...]:
        """Return the sorted names of the workers that answer."""
        return tuple(sorted(self._answers("ping", timeout_s, at_most)))

    def readiness(self, timeout_s: float, at_most: int | None) -> dict[str, WorkerReadiness]:
        """Return the readiness of each worker that answers, by name."""
        answers = self._answers("readiness", timeout_s, at_most)
        return {
            name: WorkerReadiness(
                answer["children"], answer["ready"], answer["model"], answer.get("scorings")
            )
            for name, answer in answers.items()
        }

    def _answers(self, command: str, timeout_s: float, at_most: int | None) -> dict[str, Any]:
        return self._calls.get(
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
