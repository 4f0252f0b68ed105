"""Every name that crosses a process: queue, task, Redis keys, and the Celery options of both sides.

Keys, where `ns` is the namespace (every one has a TTL, set in `contract.store`):

    ns:job:ID            hash    state, counts, attempts, times, digest of the payload
    ns:payload:ID        string  the job, compressed; removed when the job ends, unless it is a
                                 dead letter
    ns:lease:ID          string  token of the attempt under way; expires unless it is renewed
    ns:outcome:ID        string  the result or failure, compressed; the first one written stays
    ns:live:queued       zset    ids of jobs no worker has begun, by priority step and time of
                                 submission
    ns:live:running      zset    ids of jobs a worker has begun, by time of the last start
    ns:dead              zset    ids of the dead letters, by time of their end
    ns:totals            hash    jobs ended, by state
    ns:counters          hash    what `contract.metrics` counts
    ns:sweeper           string  the one worker that looks for lost jobs just now
    ns:sweeper:places    hash    how far the sweeper has looked through the jobs of each kind
    ns:done              channel ids of jobs, as they end

Celery's own: the list `ns` and one list a priority step (the queue), `ns:unacked*` (messages that
workers hold), `_kombu.binding.*`, and `ns:celery-task-meta-ID` (the small task results).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contract.settings import Settings

#: The one task. Producers send it by name, so that they need not have the worker's code.
SCORE_TASK = "rerankq.score"

#: Kombu's queue on Redis is one list for each step; 0 is taken first. A priority in between goes
#: to the step below it.
PRIORITY_STEPS = (0, 3, 6, 9)
#: A person waits for a single job, nobody for one of a thousand: bulk work queues behind.
PRIORITY_SINGLE = 3
PRIORITY_BULK = 6

#: The score of a queued job is its time, and this times its priority step.
STEP_SPAN_S = 10**10


def priority_step(priority: int) -> int:
    """Return the step whose list holds the messages of a priority, 0 to 9."""
    return max(step for step in PRIORITY_STEPS if step <= priority)


@dataclass(frozen=True)
class Keys:
    """The Redis keys of one namespace."""

    namespace: str

    @property
    def queue(self) -> str:
        return self.namespace

    @property
    def queue_lists(self) -> tuple[str, ...]:
        """Return the lists behind the queue, first served first (kombu's naming)."""
        return tuple(map(self.queue_list, PRIORITY_STEPS))

    def queue_list(self, step: int) -> str:
        """Return the list of one step."""
        return f"{self.queue}\x06\x16{step}" if step else self.queue

    def job(self, job_id: str) -> str:
        return f"{self.namespace}:job:{job_id}"

    def payload(self, job_id: str) -> str:
        return f"{self.namespace}:payload:{job_id}"

    def outcome(self, job_id: str) -> str:
        return f"{self.namespace}:outcome:{job_id}"

    @property
    def queued(self) -> str:
        return f"{self.namespace}:live:queued"

    @property
    def running(self) -> str:
        return f"{self.namespace}:live:running"

    def lease(self, job_id: str) -> str:
        return f"{self.namespace}:lease:{job_id}"

    @property
    def dead(self) -> str:
        return f"{self.namespace}:dead"

    @property
    def sweeper(self) -> str:
        return f"{self.namespace}:sweeper"

    @property
    def sweeper_places(self) -> str:
        return f"{self.sweeper}:places"

    @property
    def totals(self) -> str:
        return f"{self.namespace}:totals"

    @property
    def counters(self) -> str:
        return f"{self.namespace}:counters"

    @property
    def done(self) -> str:
        return f"{self.namespace}:done"

    @property
    def unacked(self) -> str:
        return f"{self.namespace}:unacked"

    @property
    def unacked_by_producers(self) -> str:
        """Return where kombu looks for lost messages in a producer, which never holds any."""
        return f"{self.unacked}:producers"

    @property
    def unacked_index(self) -> str:
        return f"{self.unacked}:index"


def celery_options(settings: Settings) -> dict[str, Any]:
    """Return the Celery options that producer, worker and Flower must share."""
    keys = Keys(settings.namespace)
    return {
        "broker_url": settings.redis_server,
        # Passed apart from the URL: kombu checks no certificate unless it is told to, and Flower
        # does not read the URL's query.
        "broker_use_ssl": settings.redis_tls,
        "redis_backend_use_ssl": settings.redis_tls,
        # Never pickle: whoever can write to Redis could run code.
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_default_queue": keys.queue,
        "task_create_missing_queues": False,  # a typo must not make a queue that nobody reads
        # Two namespaces on one Redis must not answer each other's pings.
        "control_exchange": settings.namespace,
        "event_exchange": f"{settings.namespace}.events",
        "task_send_sent_event": True,  # Flower shows how long a job queued
        "broker_transport_options": {
            "priority_steps": list(PRIORITY_STEPS),
            # The shortest timeout among all apps on one Redis wins, so both sides state it.
            "visibility_timeout": settings.visibility_timeout_s,
            "unacked_key": keys.unacked,
            "unacked_index_key": keys.unacked_index,
            "unacked_mutex_key": f"{keys.unacked}:mutex",
        },
    }


def options_of_no_worker(settings: Settings) -> dict[str, str]:
    """Return the transport's options of who takes no messages: producers and Flower.

    What workers hold is not theirs to give back, which kombu would do while they wait for a reply.
    """
    unacked = Keys(settings.namespace).unacked_by_producers
    return {
        "unacked_key": unacked,
        "unacked_index_key": f"{unacked}:index",
        "unacked_mutex_key": f"{unacked}:mutex",
    }
