"""The Celery app that `celery -A worker` finds: read the settings and assemble the parts.

No other module of a worker, of Flower or of a health check reads settings from the environment.
"""

from __future__ import annotations

import os
from typing import Any

from celery import signals

from contract.errors import InvalidInput
from worker.monitoring import flower, log_format
from worker.runtime import pool_kinds
from worker.runtime.app import WorkerApp, create_app
from worker.runtime.exits import exit_misconfigured
from worker.runtime.settings import WorkerSettings

#: Variables that take precedence over an app's settings in Celery. Its options `-b`,
#: `--result-backend`, `--config` and `--loader` set them too.
VARIABLES_OF_CELERY = (
    *("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"),
    *("CELERY_RESULT_BACKEND", "CELERY_CONFIG_MODULE", "CELERY_LOADER"),
)


def _load_settings() -> WorkerSettings:
    for name in VARIABLES_OF_CELERY:
        if os.environ.get(name):
            exit_misconfigured(
                f"Error: {name} is set, in the environment or by an option of celery, and would"
                " override the settings of rerankq. Unset it, and set RERANKQ_REDIS_URL to the"
                " address of Redis"
            )
    try:
        return WorkerSettings.load()
    except InvalidInput as error:
        exit_misconfigured(f"Error: {error}")


def _build() -> WorkerApp:
    settings = _load_settings()
    app = create_app(settings)
    log_format.register(app)
    pool_kinds.register()
    signals.import_modules.connect(_register_jobs, sender=app)
    flower.register(app)
    return app


def _register_jobs(sender: WorkerApp, **_: Any) -> None:
    """Register the job modules when Celery loads its tasks, because a health check needs none."""
    from worker.jobs import child_outcomes, sweeper, tasks
    from worker.runtime import pool, startup_checks

    for part in (startup_checks, pool, child_outcomes):
        part.register()
    tasks.register(sender)
    sweeper.register(sender)


app = _build()
