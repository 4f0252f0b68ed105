"""Export the service's metrics in Prometheus' text format, read from Redis at each scrape.

The counters are those of `contract.metrics`, with the prefix `rerankq_` and the suffix `_total`.
One endpoint covers all workers, so workers need no endpoints.
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
from producer.monitoring.http_server import DEFAULT_LIMITS

try:
    from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise RerankError(
        "metrics require prometheus-client; run pip install 'rerankq[monitor]'"
    ) from error

logger = logging.getLogger(__name__)

#: The longest time that a scrape waits for the answer to another scrape.
SHARED_READ_TIMEOUT_S = 15.0
#: The states of jobs that have not ended.
LIVE = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class Gauge:
    """A metric of the current state, in addition to the counters."""

    name: str
    help: str
    #: Returns the value: a number, or a number for each value of the label.
    read: Callable[[QueueStatus], float | Mapping[str, float]]
    label: str | None = None


GAUGES = (
    Gauge("workers", "Number of workers that answer.", lambda status: len(status.workers)),
    Gauge(
        "queue_messages",
        "Number of messages waiting for a worker, by priority; 0 is served first.",
        lambda status: {str(step): length for step, length in status.queue_lengths.items()},
        "priority",
    ),
    Gauge(
        "oldest_queued_seconds",
        "Age in seconds of the oldest job that no worker has started; 0 if there is none.",
        lambda status: status.oldest_queued_s or 0.0,
    ),
    Gauge(
        "jobs",
        "Number of jobs that are queued or running, by state.",
        lambda status: {state: status.jobs[state] for state in LIVE},
        "state",
    ),
    Gauge(
        "unfinished_pairs",
        "Number of pairs of the jobs that are queued or running, by state; estimated from a sample"
        " if these are more than 1,000 jobs.",
        lambda status: {state: status.pairs.get(state, 0) for state in LIVE},
        "state",
    ),
    Gauge(
        "unacked_messages",
        "Number of messages that workers hold and have not acknowledged.",
        lambda status: status.unacked,
    ),
    Gauge(
        "dead_letters",
        "Number of failed jobs that can be retried.",
        lambda status: status.dead_letters,
    ),
    Gauge(
        "redis_memory_used_bytes",
        "Memory that Redis uses, in bytes.",
        lambda status: status.redis_memory_bytes,
    ),
    Gauge(
        "redis_memory_max_bytes",
        "Memory limit of Redis, in bytes; 0 if there is none.",
        lambda status: status.redis_max_memory_bytes,
    ),
    Gauge(
        "warnings",
        "Number of warnings about Redis settings and clocks; `rerankq status` prints them.",
        lambda status: len(status.warnings),
    ),
)
#: The only metric that remains if Redis does not answer.
REDIS_UP_HELP = (
    "Whether Redis answers: 1 if it does; 0 if not, and then all other metrics are missing."
)


def exposition(read: Callable[[], QueueStatus], *, strict: bool = True) -> str:
    """Return the current values of all metrics.

    Raises the errors of `read`. Without `strict`, `rerankq_redis_up` is 0 after an error of
    rerankq, and the rest is missing.
    """
    return generate_latest(_registry(_StatusCollector(read, strict=strict))).decode()


def serve(
    read: Callable[[], QueueStatus],
    address: str,
    port: int,
    *,
    cache_s: float = 1.0,
    limits: http_server.Limits = DEFAULT_LIMITS,
) -> tuple[Any, Any]:
    """Answer scrapes in threads; return the server and the thread that accepts connections.

    Scrapes within `cache_s` seconds share one answer. While Redis does not answer,
    `rerankq_redis_up` is 0 and the rest is missing. Raises `OSError` if it cannot listen.
    """
    shared: SingleFlight[QueueStatus] = SingleFlight("metrics", cache_s)
    collector = _StatusCollector(
        lambda: shared.get(None, read, SHARED_READ_TIMEOUT_S), strict=False
    )
    return http_server.serve(make_wsgi_app(_registry(collector)), address, port, limits)


def _registry(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


class _StatusCollector(Collector):
    """Reads the service's status at each scrape, and converts it to metrics."""

    def __init__(self, read: Callable[[], QueueStatus], *, strict: bool) -> None:
        self._read = read
        self._strict = strict

    def describe(self) -> Iterable[Any]:
        """Return nothing, so that registering the collector does not read from Redis."""
        return ()

    def collect(self) -> Iterable[Any]:
        redis_up = GaugeMetricFamily("rerankq_redis_up", REDIS_UP_HELP)
        try:
            status = self._read()
        except RerankError as error:
            if self._strict:
                raise
            logger.warning("Cannot read the metrics: %s", error)
            redis_up.add_metric((), 0)
            return (redis_up,)
        redis_up.add_metric((), 1)
        return (redis_up, *_gauges(status), *_counters(status))


def _gauges(status: QueueStatus) -> Iterable[Any]:
    for gauge in GAUGES:
        family = GaugeMetricFamily(f"rerankq_{gauge.name}", gauge.help, labels=_labels(gauge.label))
        value = gauge.read(status)
        _add_values(family, gauge.label, value if isinstance(value, Mapping) else {"": value})
        yield family


def _counters(status: QueueStatus) -> Iterable[Any]:
    for counter in metrics.ALL:
        family = CounterMetricFamily(
            f"rerankq_{counter.name}", counter.help, labels=_labels(counter.label)
        )
        _add_values(family, counter.label, status.counters.get(counter.name, {}))
        yield family


def _labels(label: str | None) -> tuple[str, ...]:
    return (label,) if label else ()


def _add_values(family: Any, label: str | None, values: Mapping[str, float]) -> None:
    for label_value, value in sorted(values.items()):
        family.add_metric((label_value,) if label else (), value)
