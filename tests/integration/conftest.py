"""Fixtures of several files of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from contract.settings import Settings
from producer.client.blocking import RerankClient


@pytest.fixture
def reranker(settings: Settings) -> Iterator[RerankClient]:
    with RerankClient(settings) as made:
        yield made


@pytest.fixture
def mute(settings: Settings, client: redis.Redis) -> Iterator[Settings]:
    """Return settings with a login that may do everything except put messages on the queue."""
    name = settings.namespace
    client.acl_setuser(
        name,
        enabled=True,
        passwords=["+secret"],
        keys=["*"],
        channels=["*"],
        commands=["+@all", "-lpush"],
    )
    url = settings.redis_url.get_secret_value().replace("://", f"://{name}:secret@")
    yield Settings.load(redis_url=url, namespace=name)
    client.acl_deluser(name)
