"""One round trip to Redis: described once, run by `contract.store.blocking` or with asyncio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Operation(Generic[T]):
    """The commands to put into a pipeline, and how to read all their replies."""

    send: Callable[[Any], object]
    read: Callable[[list[Any]], T]


def ping() -> Operation[None]:
    """Return an operation that does nothing but the round trip."""
    return Operation(lambda pipe: pipe.ping(), lambda _: None)
