"""The lease of an attempt: while it is renewed, nobody else begins the job."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from contract.errors import RerankError, TimeLimitExceeded
from worker.runtime.settings import WorkerSettings

#: Between two looks, while an attempt waits for its turn, at whether it still counts.
SLOT_POLL_S = 0.5


class Superseded(RerankError):
    """The attempt no longer counts: the job was cancelled, or another attempt has ended it."""

    code = "superseded"


class Lease:
    """The lease of one attempt at one job; `scoring_lock` is for one attempt at a time."""

    def __init__(
        self, job_id: str, token: str, settings: WorkerSettings, scoring_lock: threading.Lock
    ) -> None:
        self.job_id = job_id
        self.token = token
        self.lost = False
        #: Whether it is this attempt's turn to score.
        self.scoring = False
        self.began = time.monotonic()
        self._settings = settings
        self._scoring_lock = scoring_lock

    @property
    def seconds(self) -> float:
        """Since the attempt began, or since its turn to score."""
        return time.monotonic() - self.began

    @contextmanager
    def scoring_slot(self) -> Iterator[None]:
        """Wait until no other attempt of this process scores; the time limit begins then.

        Raises `Superseded`.
        """
        while not self._scoring_lock.acquire(timeout=SLOT_POLL_S):
            self._check_counts()
        try:
            self.began = time.monotonic()
            self.scoring = True
            yield
        finally:
            self.scoring = False
            self._scoring_lock.release()

    def check(self) -> None:
        """Raise `Superseded` or `TimeLimitExceeded`; called before each batch.

        Celery's own time limit is not kept while Redis is away, nor in threads.
        """
        self._check_counts()
        if self.seconds > self._settings.soft_time_limit_s:
            raise time_limit_error(self._settings)

    def _check_counts(self) -> None:
        if self.lost:
            raise Superseded(f"job {self.job_id} has ended meanwhile")


def time_limit_error(settings: WorkerSettings) -> TimeLimitExceeded:
    """Return the error of a job that takes too long."""
    return TimeLimitExceeded(
        f"not done after {settings.soft_time_limit_s} s (RERANKQ_SOFT_TIME_LIMIT_S):"
        " send fewer pairs in a job"
    )


def token_prefix(worker: str, pid: int) -> str:
    """Return how the tokens of one process begin."""
    return f"{worker}:{pid}:"


def new_token(worker: str) -> str:
    """Return a token for an attempt in this process."""
    return token_prefix(worker, os.getpid()) + uuid.uuid4().hex
