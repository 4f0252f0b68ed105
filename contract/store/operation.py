"""One round trip to Redis: described once, run by `contract.store.blocking` or with asyncio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from contract import names
from contract.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Operation(Generic[T]):
    """The commands to put into a pipeline, and how to read all their replies."""

    send: Callable[[Any], object]
    read: Callable[[list[Any]], T]


def ping() -> Operation[None]:
    """Return an operation that does nothing but the round trip."""
    return Operation(lambda pipe: pipe.ping(), lambda _: None)


class Schema:
    """The keys and times to live of one namespace. Holds no connection."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = names.Keys(settings.namespace)

    @property
    def state_ttl_s(self) -> int:
        """How long a job's state is remembered: never less than its payload or its outcome."""
        settings = self.settings
        return max(settings.job_ttl_s, settings.payload_ttl_s, settings.result_ttl_s)
