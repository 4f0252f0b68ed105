"""The service in Prometheus' text format, read from Redis at each scrape.

Counters are those of `contract.metrics`, with `rerankq_` before and `_total` behind their names.
One endpoint tells of all workers; nothing has to be asked of each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from contract import metrics
from contract.errors import RerankError
from contract.jobs import JobState, QueueStatus
from producer.client.single_flight import SingleFlight
from producer.monitoring import http_server

try:
    from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise RerankError("metrics need prometheus-client: pip install 'rerankq[monitor]'") from error

logger = logging.getLogger(__name__)

#: Scrapes share an answer that is no older than this.
FRESH_S = 1.0
#: A scrape waits this long for the answer that another one asked for.
READ_S = 15.0


@dataclass(frozen=True)
class Gauge:
    """What there is now, beside what was counted."""

    name: str
    help: str
    #: Where it stands: a number, or one by each value of the label.
    read: Callable[[QueueStatus], float | Mapping[str, float]]
    label: str | None = None


GAUGES = (
    Gauge("workers", "Workers that answer", lambda status: len(status.workers)),
    Gauge(
        "queue_messages",
        "Messages waiting for a worker, by priority (0 is first)",
        lambda status: {str(step): length for step, length in status.queue_lengths.items()},
        "priority",
    ),
    Gauge(
        "oldest_queued_seconds",
        "How long the oldest job has waited that no worker has begun; 0 if none waits",
        lambda status: status.oldest_queued_s or 0.0,
    ),
    Gauge(
        "jobs",
        "Jobs that wait, and jobs that workers have begun",
        lambda status: {state: status.jobs[state] for state in (JobState.QUEUED, JobState.RUNNING)},
        "state",
    ),
    Gauge("unacked_messages", "Messages that workers hold", lambda status: status.unacked),
    Gauge(
        "dead_letters", "Failed jobs that can be tried again", lambda status: status.dead_letters
    ),
    Gauge("redis_memory_used_bytes", "What Redis uses", lambda status: status.redis_memory_bytes),
    Gauge(
        "redis_memory_max_bytes",
        "What Redis may use; 0 for no limit",
        lambda status: status.redis_max_memory_bytes,
    ),
    Gauge(
        "warnings",
        "Settings of Redis and clocks that endanger jobs; `rerankq status` names them",
        lambda status: len(status.warnings),
    ),
)


def text(read: Callable[[], QueueStatus]) -> str:
    """All metrics, as they are now. Raises what `read` does."""
    return generate_latest(_registry(_Service(read, strict=True))).decode()


def serve(read: Callable[[], QueueStatus], address: str, port: int) -> tuple[Any, Any]:
    """Answer scrapes in threads; returns the server and the thread that accepts connections.

    Scrapes within `FRESH_S` share one answer. A Redis that is away is no error:
    `rerankq_redis_up` is 0, and the rest is missing. Raises `OSError` if it cannot listen.
    """
    shared: SingleFlight[QueueStatus] = SingleFlight("metrics", FRESH_S)
    service = _Service(lambda: shared.get(None, read, READ_S), strict=False)
    return http_server.serve(make_wsgi_app(_registry(service)), address, port)


def _registry(service: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(service)
    return registry


class _Service(Collector):
    """Reads all at each scrape."""

    def __init__(self, read: Callable[[], QueueStatus], *, strict: bool) -> None:
        self._read = read
        self._strict = strict

    def describe(self) -> Iterable[Any]:
        """Nothing: to be registered is no reason to read."""
        return ()

    def collect(self) -> Iterable[Any]:
        up = GaugeMetricFamily("rerankq_redis_up", "Whether Redis answers")
        try:
            status = self._read()
        except RerankError as error:
            if self._strict:
                raise
            logger.warning("No metrics: %s", error)
            up.add_metric((), 0)
            return (up,)
        up.add_metric((), 1)
        return (up, *_gauges(status), *_counters(status))


def _gauges(status: QueueStatus) -> Iterable[Any]:
    for gauge in GAUGES:
        family = GaugeMetricFamily(f"rerankq_{gauge.name}", gauge.help, labels=_labels(gauge.label))
        value = gauge.read(status)
        _fill(family, gauge.label, value if isinstance(value, Mapping) else {"": value})
        yield family


def _counters(status: QueueStatus) -> Iterable[Any]:
    for counter in metrics.ALL:
        family = CounterMetricFamily(
            f"rerankq_{counter.name}", counter.help, labels=_labels(counter.label)
        )
        _fill(family, counter.label, status.counters.get(counter.name, {}))
        yield family


def _labels(label: str | None) -> tuple[str, ...]:
    return (label,) if label else ()


def _fill(family: Any, label: str | None, amounts: Mapping[str, float]) -> None:
    for value, amount in sorted(amounts.items()):
        family.add_metric((value,) if label else (), amount)
