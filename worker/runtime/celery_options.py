"""Celery's options for a worker, with a reason for each."""

from __future__ import annotations

from typing import Any

from redis.exceptions import OutOfMemoryError, ReadOnlyError

from contract import names
from worker.runtime.settings import WorkerSettings


def celery_options(settings: WorkerSettings) -> dict[str, Any]:
    """Return the options of a worker in addition to those that producers share."""
    shared = names.celery_options(settings)
    return shared | {
        "broker_transport_options": shared["broker_transport_options"]
        | _transport_options(settings),
        # Delivery
        "task_acks_late": True,  # acknowledge a message once its outcome is recorded
        "task_retry_on_worker_lost": True,  # a killed child's job runs again; attempts are counted
        "task_reject_on_worker_lost": True,  # only if that message cannot be sent
        "task_acks_on_failure": True,  # a failure is an outcome ...
        "task_acks_on_timeout": True,  # ... and so is the hard time limit
        "worker_deduplicate_successful_tasks": True,  # skip messages delivered again after success
        # Leases keep attempts apart, and a killed child would have to load its model again.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_prefetch_multiplier": 1,  # jobs are long: leave the next one to any free worker
        # Redis being unavailable
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # wait for Redis without a limit
        "broker_channel_error_retry": True,  # survive "out of memory" and "read only" replies
        "broker_pool_acquire_timeout": 5,
        "broker_pool_limit": 10,
        "task_publish_retry_policy": {
            "max_retries": 3,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 0.5,
        },
        # Celery's own small results, which deduplication needs
        "result_backend": settings.redis_server,
        "result_backend_always_retry": True,  # finished work must not fail for a short outage
        "result_backend_max_retries": 60,
        "result_backend_transport_options": {
            "global_keyprefix": f"{settings.namespace}:",
            # A full Redis and one that has become a replica accept writes again later.
            "additional_connection_errors": (OutOfMemoryError, ReadOnlyError),
            **names.sentinel_options(settings),
        },
        "redis_socket_timeout": 10,
        "redis_socket_connect_timeout": 5,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": 25,
        "result_expires": 3600,
        "result_failure_expires": 86_400,
        "result_extended": False,  # the arguments are in the job's record too
        # Children
        "worker_concurrency": settings.default_concurrency,
        # A child that cannot load its model reports the reason before it exits.
        "worker_pool": "worker.runtime.prefork:TaskPool",
        "worker_proc_alive_timeout": settings.model_load_timeout_s,  # replacements load models
        "worker_lost_wait": 5,
        "worker_max_tasks_per_child": 2_000,  # insurance against leaks
        "task_soft_time_limit": settings.soft_time_limit_s,
        "task_time_limit": settings.time_limit_s,
        "worker_eta_task_limit": 100,
        # Heartbeats are sent without retries.
        "worker_consumer": "worker.runtime.consumer:Consumer",
        # Monitoring
        "worker_send_task_events": True,
        "worker_redirect_stdouts": False,  # do not log printed lines as warnings
    }


def _transport_options(settings: WorkerSettings) -> dict[str, Any]:
    return {
        "unacked_restore_interval": 5,  # look for messages of dead workers every 5 s ...
        "unacked_restore_throttle": 1,  # ... and not only at every tenth check
        "unacked_restore_limit": 100,  # do not restore all of them in one command
        "unacked_mutex_expire": 30,  # a worker killed during the check must not block others
        "socket_timeout": 10,  # well above the 1 s that a blocking pop lasts
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,  # a half-open connection is detected in about 21 s
        "client_name": "rerankq-worker",
        "max_delay_s": settings.lease_s,  # see `worker.runtime.envelope`
    }
