"""The worker process: Celery app, settings, process pool, transport, Redis connection, health."""
