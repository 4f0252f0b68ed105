"""Make the Celery app of the publisher, isolated from other Celery apps in the process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.loaders.app import AppLoader

from contract import names
from contract.settings import Settings


class _Loader(AppLoader):  # type: ignore[misc]  # Celery is untyped
    """Reads no configuration, because CELERY_CONFIG_MODULE belongs to the embedding program."""

    def read_configuration(self, *_: Any, **__: Any) -> Mapping[str, Any]:
        return {}


class _App(Celery):  # type: ignore[misc]
    """Stores no results, regardless of CELERY_RESULT_BACKEND.

    With a result backend, publishing would subscribe to each result, and block for about twenty
    seconds when Redis is away.
    """

    backend_cls = "disabled"


def publisher_app(settings: Settings) -> Celery:
    """Return a Celery app that only sends, configured only by `settings`."""
    app = _App(
        "rerankq.producer",
        set_as_current=False,
        loader=_Loader,
        fixups=(),  # Django's would read its settings, and put the working directory on sys.path
    )
    app.conf.update(names.celery_options(settings))
    app.conf.update(
        broker_connection_timeout=settings.redis_timeout_s,
        broker_connection_retry=False,
        # One retry, in case a pooled connection was closed.
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0},
    )
    app.conf.broker_transport_options |= {
        "socket_timeout": settings.redis_timeout_s,
        "socket_connect_timeout": settings.redis_timeout_s,
        "socket_keepalive": True,
        "client_name": "rerankq-producer",
        **names.options_of_no_worker(settings),
        # Kombu's own attempts to connect, before Celery's retry policies apply.
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0,
    }
    return app
