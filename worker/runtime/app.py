"""The Celery app, where `celery -A worker` looks for it, with a reason for each setting."""

from __future__ import annotations

import os
import warnings
from typing import Any

from celery import Celery
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import heartbeat
from kombu.transport import TRANSPORT_ALIASES

from contract import names
from contract.errors import InvalidInput
from worker.monitoring import flower, log_format
from worker.runtime import pool_kinds  # noqa: F401 (pools checks --pool)
from worker.runtime.exits import exit_misconfigured
from worker.runtime.settings import WorkerSettings

#: Variables that Celery puts before an app's own settings; its options `-b`, `--result-backend`,
#: `--config` and `--loader` set them too.
FOREIGN = (
    *("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"),
    *("CELERY_RESULT_BACKEND", "CELERY_CONFIG_MODULE", "CELERY_LOADER"),
)


def _load() -> WorkerSettings:
    # Programs import this module to be a worker, or to ask one.
    for name in FOREIGN:
        if os.environ.get(name):
            exit_misconfigured(
                f"Error: {name} is set, by the environment or an option of celery: Celery would use"
                " it in place of this service's settings. Unset it; the address of Redis is"
                " RERANKQ_REDIS_URL"
            )
    try:
        return WorkerSettings.load()
    except InvalidInput as error:
        exit_misconfigured(f"Error: {error}")


#: What task and children use, read from the environment once.
settings = _load()

app = Celery(
    "rerankq.worker",
    include=[
        *(
            "worker.jobs.tasks",
            "worker.runtime.pool",
            "worker.jobs.child_outcomes",
            "worker.jobs.sweeper",
        ),
        "worker.runtime.startup_checks",
    ],
)
app.user_options["worker"].add(log_format.option(settings.log_format))
# By its alias, so that log lines still say redis://.
TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = "worker.runtime.transport:Transport"
app.conf.update(names.celery_options(settings))
app.conf.broker_transport_options |= {
    "unacked_restore_interval": 5,  # look for messages of dead workers each 5 s ...
    "unacked_restore_throttle": 1,  # ... and not at every tenth look only
    "unacked_restore_limit": 100,  # not all of them in one command
    "unacked_mutex_expire": 30,  # one that is killed while it looks must not keep others from it
    "socket_timeout": 10,  # well above the 1 s that a blocking pop lasts
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,  # a half-open connection is noticed in about 21 s
    "client_name": "rerankq-worker",
}
app.conf.update(
    # Delivery
    task_acks_late=True,  # a message leaves the queue when its outcome is on record
    task_retry_on_worker_lost=True,  # a killed child's job runs again; attempts are counted with it
    task_reject_on_worker_lost=True,  # only if that message cannot be sent
    task_acks_on_failure=True,  # a failure is an end ...
    task_acks_on_timeout=True,  # ... and so is the hard time limit
    worker_deduplicate_successful_tasks=True,  # a message delivered again after success is dropped
    # Leases keep twins apart; a killed child would have to load its model again.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_prefetch_multiplier=1,  # jobs are long: the next one is for whoever is free
    # Redis going away
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # wait for Redis for ever
    broker_channel_error_retry=True,  # survive "out of memory" and "read only" replies
    broker_pool_acquire_timeout=5,
    broker_pool_limit=10,
    task_publish_retry_policy={
        "max_retries": 3,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
    },
    # Celery's own small results, which deduplication needs
    result_backend=settings.redis_server,
    result_backend_always_retry=True,  # finished work does not become a failure at a blip
    result_backend_max_retries=60,
    result_backend_transport_options={"global_keyprefix": f"{settings.namespace}:"},
    redis_socket_timeout=10,
    redis_socket_connect_timeout=5,
    redis_socket_keepalive=True,
    redis_backend_health_check_interval=25,
    result_expires=3600,
    result_failure_expires=86_400,
    result_extended=False,  # the arguments say nothing that the job's record does not
    # Children
    worker_concurrency=settings.default_concurrency,
    # A child that does not load ends with the reason.
    worker_pool="worker.runtime.prefork:TaskPool",
    worker_proc_alive_timeout=settings.model_load_timeout_s,  # replacement children load models
    worker_lost_wait=5,
    worker_max_tasks_per_child=2_000,  # insurance against leaks
    task_soft_time_limit=settings.soft_time_limit_s,
    task_time_limit=settings.time_limit_s,
    worker_eta_task_limit=100,
    # Watching
    worker_send_task_events=True,
    worker_redirect_stdouts=False,  # what prints, prints; it is no warning of ours
)


@app.on_after_finalize.connect
def _unregister_celerys_tasks(sender: Celery, **_: Any) -> None:
    """Leave our task alone on the list: `celery.map` and its like run it past its checks."""
    for name in [name for name in sender.tasks if name.startswith("celery.")]:
        sender.tasks.unregister(name)


# At each loss of a connection Celery explains that setting's default, also to who has set it.
warnings.filterwarnings("ignore", "\nIn Celery 5.1 we introduced", CPendingDeprecationWarning)

# Celery sends its heartbeat from the main loop and tries again without an end: a Redis that accepts
# and never answers would freeze the loop, deaf to SIGTERM. One try is enough for a heartbeat.
heartbeat.Heart._send.__defaults__ = (False,)

flower.set_defaults(settings)
