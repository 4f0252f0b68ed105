"""Count and time the requests of this process, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

#: Paths that are counted separately; paths below one of them are counted with it.
PATHS = ("/v1/rerank", "/v2/rerank", "/rerank", "/v1/jobs", "/v1/batches")
OTHER = "other"
#: The upper bounds of the histogram, in seconds.
BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class RequestMetrics:
    """The metrics of one process; other processes of the service have their own."""

    def __init__(self) -> None:
        #: The number of requests that wait for their answer.
        self.now_waiting = 0
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "rerankq_http_requests",
            "HTTP requests, by path and status",
            ("path", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "rerankq_http_request_seconds",
            "Seconds until the answer to an HTTP request begins, by path",
            ("path",),
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._waiting = Gauge(
            "rerankq_http_requests_waiting",
            "HTTP requests that wait for their answer",
            registry=self._registry,
        )

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count a request as waiting until the end of the block."""
        self.now_waiting += 1
        try:
            yield
        finally:
            self.now_waiting -= 1

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count a request whose answer begins."""
        label = next((each for each in PATHS if f"{path}/".startswith(f"{each}/")), OTHER)
        self._requests.labels(label, str(status)).inc()
        self._seconds.labels(label).observe(seconds)

    def exposition(self) -> str:
        """Return the current values in Prometheus' text format."""
        self._waiting.set(self.now_waiting)
        return generate_latest(self._registry).decode()
