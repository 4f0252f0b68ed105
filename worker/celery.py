"""The Celery app, where `celery -A worker` looks for it."""

from worker.runtime.app import app as app
