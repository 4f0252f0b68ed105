"""Describe a round trip to Redis, which the blocking or the asyncio store runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from contract import names
from contract.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Operation(Generic[T]):
    """The commands of a pipeline, and a function that reads their replies."""

    send: Callable[[Any], object]
    read: Callable[[list[Any]], T]
    #: Whether the commands run one after the other instead of in a transaction, which cannot wait.
    in_sequence: bool = False


def ping() -> Operation[None]:
    """Return an operation that only makes the round trip."""
    return Operation(lambda pipe: pipe.ping(), lambda _: None)


def together(operations: Sequence[Operation[T]]) -> Operation[list[T]]:
    """Return an operation that runs several of one command each, in one round trip."""

    def send(pipe: Any) -> None:
        for each in operations:
            each.send(pipe)

    def read(replies: list[Any]) -> list[T]:
        return [each.read([reply]) for each, reply in zip(operations, replies, strict=True)]

    return Operation(send, read)


class Schema:
    """The keys and times to live of one namespace, without a connection."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = names.Keys(settings.namespace)

    @property
    def state_ttl_s(self) -> int:
        """Return how long a job's state is kept: as long as its payload and outcome, or longer."""
        settings = self.settings
        return max(settings.job_ttl_s, settings.payload_ttl_s, settings.result_ttl_s)
