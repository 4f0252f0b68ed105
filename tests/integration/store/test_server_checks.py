"""Wrong settings of a server appear in `rerankq status`, and in a gauge."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
from click.testing import CliRunner

from contract.settings import Settings
from contract.store import server_checks
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer.cli import main
from producer.client.blocking import RerankClient
from producer.monitoring import prometheus
from tests.embedded_redis import embedded_redis


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobStore]:
    """Yield a server that keeps its data and has no wrong settings."""
    folder = tmp_path_factory.mktemp("redis")
    with (
        embedded_redis(data_dir=folder, persist=True, appendonly="yes") as server,
        redis.Redis(port=server.port) as client,
    ):
        client.config_set("maxmemory-policy", "noeviction")
        made = Settings.load(redis_url=f"redis://127.0.0.1:{server.port}/0", namespace="test")
        yield JobStore(client, Schema(made))


def found(store: JobStore) -> tuple[str, ...]:
    return store.execute(server_checks.check_all(store.schema))


def test_nothing_is_said_where_nothing_is_wrong(own: JobStore) -> None:
    assert found(own) == ()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_policy_that_removes_jobs_is_named_with_the_way_out(own: JobStore, policy: str) -> None:
    own.client.config_set("maxmemory-policy", policy)
    assert found(own) == (
        f"Redis may remove jobs and results when its memory is full (maxmemory-policy {policy});"
        " set maxmemory-policy to noeviction",
    )


def test_a_server_that_keeps_nothing_is_named(own: JobStore) -> None:
    own.client.config_set("appendonly", "no")
    (line,) = found(own)
    assert line.endswith("when it stops; set appendonly to yes")


def test_the_clock_of_a_worker_is_compared_with_that_of_redis(own: JobStore) -> None:
    own.client.zadd(own.schema.keys.unacked_index, {"tag": time.time() + 3_600})
    (line,) = found(own)
    assert line.startswith("the clock of a worker is 3,")
    assert line.endswith(" s ahead of Redis; synchronize both clocks with NTP")
    # A message that was taken long ago proves nothing
    own.client.zadd(own.schema.keys.unacked_index, {"tag": time.time() - 3_600})
    assert found(own) == ()


def test_they_are_lines_of_status_and_a_gauge(own: JobStore) -> None:
    own.client.config_set("maxmemory-policy", "allkeys-lru")
    settings = own.schema.settings
    environment = {
        "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
        "RERANKQ_NAMESPACE": settings.namespace,
    }
    shown = CliRunner(env=environment).invoke(main, ["status"])
    with RerankClient(settings) as client:
        status = client.status()
        text = prometheus.exposition(client.status)

    assert "warning" in shown.stdout
    assert "set maxmemory-policy to noeviction" in shown.stdout
    assert status.warnings == found(own)
    assert "rerankq_warnings 1.0" in text
