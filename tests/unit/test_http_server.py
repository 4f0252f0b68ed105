"""Scrapes share answers, and no client of the metrics endpoint blocks the others."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from contract.errors import RedisUnavailable
from contract.jobs import JobState, QueueStatus
from producer.monitoring import http_server, prometheus
from tests.processes import wait_until
from tests.web import fetch

STATUS = QueueStatus(
    workers=("a-worker",),
    queue_depth=0,
    queue_lengths={0: 0},
    oldest_queued_s=None,
    in_flight=0,
    unacked=0,
    jobs=dict.fromkeys(JobState, 0),
    pairs={},
    dead_letters=0,
    redis_memory_bytes=1,
    redis_max_memory_bytes=0,
    counters={},
)


@contextmanager
def serving(read: Callable[[], QueueStatus], **options: Any) -> Iterator[tuple[str, int]]:
    """Yield the endpoint's address and port."""
    server, thread = prometheus.serve(read, "127.0.0.1", 0, **options)
    try:
        port = server.server_address[1]
        yield f"http://127.0.0.1:{port}/metrics", port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_two_hundred_scrapes_at_once_share_an_answer() -> None:
    reads: list[int] = []
    all_sent = threading.Event()

    def read() -> QueueStatus:
        reads.append(1)
        all_sent.wait(30)
        return STATUS

    with serving(read) as (url, _), ThreadPoolExecutor(200) as threads:
        scraped = [threads.submit(fetch, url) for _ in range(200)]
        wait_until(lambda: threading.active_count() > 400, "all scrapes are being answered")
        all_sent.set()
        assert all("rerankq_workers 1.0" in each.result(30) for each in scraped)
    assert len(reads) == 1


def test_an_answer_is_shared_for_a_moment_only() -> None:
    reads: list[int] = []

    def read() -> QueueStatus:
        reads.append(1)
        return STATUS

    with serving(read, cache_s=0.01) as (url, _):

        def scraped_anew() -> bool:
            fetch(url)
            return len(reads) > 1

        wait_until(scraped_anew, "a scrape is answered again")


def test_a_scrape_while_redis_is_away_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> QueueStatus:
        raise RedisUnavailable("Redis is away")

    with serving(read) as (url, _):
        assert "rerankq_redis_up 0.0" in fetch(url)
    assert "Redis is away" in caplog.text


def hang(port: int, say: bytes) -> socket.socket:
    """Connect a client that sends the beginning of a request, and then nothing."""
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(say)
    return client


@pytest.mark.parametrize("say", [b"", b"GET /met", b"GET /metrics HTTP/1.1\r\nX-Slow: "])
def test_clients_that_hang_hold_up_nobody(say: bytes) -> None:
    limits = http_server.Limits(max_connections=20)
    with ExitStack() as hung, serving(lambda: STATUS, limits=limits) as (url, port):
        clients = [hung.enter_context(hang(port, say)) for _ in range(50)]
        for _ in range(5):
            assert "rerankq_workers 1.0" in fetch(url)
        # The oldest were closed to make room.
        assert all(client.recv(1) == b"" for client in clients[:25])


def test_a_client_that_sends_a_byte_now_and_then_is_closed_in_time() -> None:
    limits = http_server.Limits(max_age_s=0.2)
    with (
        serving(lambda: STATUS, limits=limits) as (url, port),
        hang(port, b"GET ") as client,
    ):

        def closed() -> bool:
            try:
                client.sendall(b"/")
            except OSError:
                return True
            return False

        wait_until(closed, "the server closes the connection")
        assert "rerankq_workers 1.0" in fetch(url)


def test_a_client_that_goes_away_is_not_worth_a_traceback(
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked, gone = threading.Event(), threading.Event()

    def read() -> QueueStatus:
        asked.set()
        gone.wait(30)
        return STATUS

    with serving(read) as (url, port):
        client: Any = hang(port, b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        asked.wait(30)
        client.close()
        gone.set()
        assert "rerankq_workers 1.0" in fetch(url)
    assert capfd.readouterr().err == ""
