"""A worker's app changes nothing of Celery or kombu for the other apps of its process."""

from __future__ import annotations

import errno
import time
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import WorkerTerminate
from celery.worker.consumer import Consumer as CelerysConsumer
from kombu import Connection
from kombu.asynchronous.timer import Timer
from kombu.transport.redis import Transport as KombusTransport

from worker.runtime import consumer
from worker.runtime.app import WorkerApp, create_app
from worker.runtime.consumer import CELERYS_HEART, Consumer, Heart, PatientRestarts
from worker.runtime.settings import WorkerSettings
from worker.runtime.transport import Transport


def app_of(redis_url: str) -> WorkerApp:
    return create_app(WorkerSettings.load(redis_url=redis_url, lease_s=7))


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_connections_of_a_worker_use_its_transport_and_those_of_others_kombus(scheme: str) -> None:
    app = app_of(f"{scheme}://:secret@localhost:6399/1")
    connections = [app.connection_for_read(), app.connection_for_read().clone()]
    for pool in (app.pool, app.amqp.producer_pool.connections):
        with pool.acquire() as pooled:
            connections.append(pooled)

    for each in connections:
        assert type(each.transport) is Transport
        assert each.as_uri() == f"{scheme}://:**@localhost:6399/1"
    others = Connection("redis://localhost:6399/1")
    assert type(others.transport) is KombusTransport


def test_no_password_is_shown_of_the_result_backend() -> None:
    assert "secret" not in app_of("redis://:secret@localhost:6399/1").backend.as_uri()


class Dispatcher:
    """The dispatcher with which Celery's heart sends events."""

    enabled = True

    def __init__(self) -> None:
        self.on_enabled: set[Any] = set()
        self.on_disabled: set[Any] = set()
        self.sent: list[tuple[str, bool]] = []

    def send(self, event: str, retry: bool = True, **_: Any) -> None:
        self.sent.append((event, retry))


class PlayedConsumer:
    """The parts of a consumer that the step for heartbeats needs."""

    def __init__(self) -> None:
        self.timer = Timer()
        self.event_dispatcher = Dispatcher()
        self.heart: Any = None


def test_a_heartbeat_is_tried_once() -> None:
    """Check that it is not retried, because that would block the main loop while Redis is away."""
    played = PlayedConsumer()
    step = Heart(played, heartbeat_interval=0.01)

    step.start(played)
    while len(played.event_dispatcher.sent) < 3:
        _, entry = next(iter(played.timer))
        if entry is not None:
            entry()
    step.stop(played)

    kinds = [event for event, _ in played.event_dispatcher.sent]
    assert kinds == ["worker-online", "worker-heartbeat", "worker-heartbeat", "worker-offline"]
    assert not any(retry for _, retry in played.event_dispatcher.sent)


def test_a_consumer_has_one_heart() -> None:
    steps = Consumer.Blueprint.default_steps

    assert Heart in steps
    assert CELERYS_HEART not in steps
    assert len(steps) == len(CelerysConsumer.Blueprint.default_steps)


def test_a_consumer_whose_connections_fail_at_once_connects_again_once_in_an_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer, "RESTART_INTERVAL_S", 0.05)
    restarts = PatientRestarts()
    began = time.monotonic()
    restarts.step()
    assert time.monotonic() - began < 0.05
    for _ in range(8):
        restarts.step()
    assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize(
    ("cause", "code"), [(OSError(errno.EMFILE, "Too many open files"), 1), (None, None)]
)
def test_a_worker_without_file_descriptors_ends_with_an_exit_code(
    cause: OSError | None, code: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def abort(_: Any) -> None:
        raise WorkerTerminate(1) from cause

    monkeypatch.setattr(CelerysConsumer, "start", abort)
    aborting = Consumer.__new__(Consumer)
    aborting.controller = SimpleNamespace(exitcode=None)
    with pytest.raises(WorkerTerminate):
        aborting.start()
    assert aborting.controller.exitcode == code
