"""The names that processes share: queue, task, Redis keys, and the Celery options of both sides.

Redis keys, where `ns` is the namespace. Each key has a TTL, which `contract.store` sets:

    ns:job:ID            hash    state, counts, attempts, times, digest of the payload; or how a
                                 query or a batch is split into jobs
    ns:payload:ID        string  the job, compressed; removed when the job ends, unless it is a
                                 dead letter
    ns:lease:ID          string  token of the current attempt; expires unless it is renewed
    ns:outcome:ID        string  the result or failure, compressed; the first one written is kept
    ns:live:queued       zset    ids of jobs that no worker has started, by priority step and time
                                 of submission
    ns:live:running      zset    ids of jobs that a worker has started, by time of the last start
    ns:turns:STEP        zset    the groups whose bulk jobs take turns, by the work they have had
    ns:turns:STEP:GROUP  list    ids of the jobs of a group that wait for their turn, oldest first
    ns:dead              zset    ids of the dead letters, by time of failure
    ns:batches           zset    ids of batches, by time of submission
    ns:runs              zset    ids of runs of `rescore`, by time of the start
    ns:run:ID            hash    the progress of a run, and the times of its start and last change
    ns:totals            hash    the number of ended jobs by state
    ns:counters          hash    the counters of `contract.metrics`
    ns:sweeper           string  the worker that currently sweeps for lost jobs
    ns:sweeper:places    hash    the position of the sweep among the jobs of each state
    ns:replicated        string  written before `WAIT`: see `contract.store.replication`
    ns:done              channel ids of jobs, published as they end

Celery's keys: the list `ns` and one list for each priority step (the queue), `ns:unacked*`
(messages that workers hold), `_kombu.binding.*`, and `ns:celery-task-meta-ID` (the small task
results).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contract.settings import Settings

#: The only task. Producers send it by name, so they do not need the worker's code.
SCORE_TASK = "rerankq.score"

#: The headers of a message in which a worker's instrumentation looks for its trace, and their
#: maximum lengths.
TRACE_HEADERS = ("traceparent", "tracestate", "baggage")
MAX_TRACE_CHARS = 8 * 1024

#: Kombu's queue on Redis has one list for each step; step 0 is consumed first. A priority between
#: two steps belongs to the lower one.
PRIORITY_STEPS = (0, 3, 6, 9)
#: A user waits for a single job, so it is consumed before bulk jobs.
PRIORITY_SINGLE = 3
PRIORITY_BULK = 6

#: From this step on, the groups of jobs take turns; the other lists are first in, first out.
FIRST_SHARED_STEP = 6

#: The score of a queued job in the zset is its time plus this span times its priority step.
STEP_SPAN_S = 10**10


def priority_step(priority: int) -> int:
    """Return the step whose list holds messages of a priority from 0 to 9."""
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
        """Return the queue's lists, named as kombu names them, in the order of service."""
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

    @property
    def turns(self) -> str:
        """Return the beginning of the keys of the groups, before the step."""
        return f"{self.namespace}:turns:"

    def lease(self, job_id: str) -> str:
        return f"{self.namespace}:lease:{job_id}"

    @property
    def dead(self) -> str:
        return f"{self.namespace}:dead"

    @property
    def batches(self) -> str:
        return f"{self.namespace}:batches"

    @property
    def runs(self) -> str:
        return f"{self.namespace}:runs"

    def run(self, run_id: str) -> str:
        return f"{self.namespace}:run:{run_id}"

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
    def replicated(self) -> str:
        return f"{self.namespace}:replicated"

    @property
    def done(self) -> str:
        return f"{self.namespace}:done"

    @property
    def unacked(self) -> str:
        return f"{self.namespace}:unacked"

    @property
    def unacked_by_producers(self) -> str:
        """Return the key in which producers look for lost messages; it is always empty."""
        return f"{self.unacked}:producers"

    @property
    def unacked_index(self) -> str:
        return f"{self.unacked}:index"


def celery_options(settings: Settings) -> dict[str, Any]:
    """Return the Celery options that producers, workers and Flower must share."""
    keys = Keys(settings.namespace)
    return {
        "broker_url": settings.redis_server,
        # Passed separately from the URL, because kombu does not verify certificates by default, and
        # Flower ignores the query of the URL.
        "broker_use_ssl": settings.redis_tls,
        "redis_backend_use_ssl": settings.redis_tls,
        # Never pickle, because anyone who can write to Redis could then run code.
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_default_queue": keys.queue,
        "task_create_missing_queues": False,  # a typo must not create a queue without consumers
        # Two namespaces on one Redis must not answer each other's pings.
        "control_exchange": settings.namespace,
        "event_exchange": f"{settings.namespace}.events",
        "task_send_sent_event": True,  # lets Flower show the time in the queue
        "broker_transport_options": {
            "priority_steps": list(PRIORITY_STEPS),
            # The shortest timeout of all apps on one Redis applies, so both sides set it.
            "visibility_timeout": settings.visibility_timeout_s,
            "unacked_key": keys.unacked,
            "unacked_index_key": keys.unacked_index,
            "unacked_mutex_key": f"{keys.unacked}:mutex",
            **sentinel_options(settings),
        },
    }


def sentinel_options(settings: Settings) -> dict[str, Any]:
    """Return the transport options with which kombu, Celery and Flower find the primary."""
    sentinel = settings.redis_sentinel
    if sentinel is None:
        return {}
    return {
        "master_name": sentinel.master_name,
        "min_other_sentinels": sentinel.min_other_sentinels,
        "sentinel_kwargs": sentinel.connection_options,
    }


def options_of_no_worker(settings: Settings) -> dict[str, str]:
    """Return the transport options of producers and Flower, which consume no messages.

    Without them, kombu would requeue messages that workers hold, while it waits for a reply.
    """
    unacked = Keys(settings.namespace).unacked_by_producers
    return {
        "unacked_key": unacked,
        "unacked_index_key": f"{unacked}:index",
        "unacked_mutex_key": f"{unacked}:mutex",
    }
