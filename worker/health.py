"""`python -m worker.health`: see `worker.runtime.health`."""

from worker.celery import app
from worker.runtime.health import main

if __name__ == "__main__":
    main(obj=app)
