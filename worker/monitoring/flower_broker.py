"""Let Flower read the lengths of the queues from the primary that Sentinel names."""

from __future__ import annotations

from typing import Any

from contract.settings import Settings
from contract.store.connection import open_async_client


def follow_primary(settings: Settings) -> None:
    """Replace Flower's reader of queues for Sentinel URLs, if the URL is one.

    Flower's own asks only one sentinel, and always reads database 0.
    """
    if settings.redis_sentinel is None:
        return
    from flower.utils import broker

    class Sentinel(broker.RedisSentinel):
        def _get_redis_client(self, *_: Any) -> Any:
            return open_async_client(settings)

    broker.RedisSentinel = Sentinel
