"""Says of this process's attempt that it is alive, and tells the attempt when it no longer counts.

A thread renews the lease while the model scores. Nobody else scores the job meanwhile; once the
renewals end, because the process was killed, somebody else may.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from contract import attempts
from contract.errors import RerankError, TimeLimitExceeded
from worker.celery import settings
from worker.connection import MAIN_TIMEOUT_S, records, store

logger = logging.getLogger(__name__)

#: Renewals in the time of a lease: an attempt that missed some is given a third of the lease more.
RENEWALS = 6


class Superseded(RerankError):
    """The attempt no longer counts: the job was cancelled, or another attempt has ended it."""

    code = "superseded"


class Lease:
    """Of one attempt at one job."""

    def __init__(self, job_id: str, token: str) -> None:
        self.job_id = job_id
        self.token = token
        self.lost = False
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the attempt began."""
        return time.monotonic() - self.began

    def check(self) -> None:
        """Raise `Superseded` or `TimeLimitExceeded`; called before each batch.

        Celery's own time limit is not kept while Redis is away.
        """
        if self.lost:
            raise Superseded(f"job {self.job_id} has ended meanwhile")
        if self.seconds > settings.soft_time_limit_s:
            raise time_limit()


def time_limit() -> TimeLimitExceeded:
    """The error of a job that takes too long."""
    return TimeLimitExceeded(
        f"not done after {settings.soft_time_limit_s} s (RERANKQ_SOFT_TIME_LIMIT_S):"
        " send fewer pairs in a job"
    )


def owner(worker: str, pid: int) -> str:
    """How the tokens of one process begin."""
    return f"{worker}:{pid}:"


def new_token(worker: str) -> str:
    """A token for an attempt in this process."""
    return owner(worker, os.getpid()) + uuid.uuid4().hex


@contextmanager
def kept(job_id: str, token: str) -> Iterator[Lease]:
    """A lease that is renewed until the end of the block."""
    keeper = _keeper(os.getpid())
    keeper.lease = lease = Lease(job_id, token)
    try:
        yield lease
    finally:
        keeper.lease = None


class _Keeper(threading.Thread):
    """Renews the lease of the attempt under way, if there is one."""

    def __init__(self) -> None:
        super().__init__(name="lease", daemon=True)
        self.lease: Lease | None = None

    def run(self) -> None:
        while True:
            time.sleep(settings.lease_s / RENEWALS)
            lease = self.lease
            if lease is not None:
                self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        try:
            renewal = attempts.renew(records, lease.job_id, lease.token, settings.lease_s)
            lease.lost = not store(MAIN_TIMEOUT_S).do(renewal)
        # Memory that runs out may do so here; with this thread, all leases to come would end.
        except Exception as error:  # noqa: BLE001
            logger.warning("Lease of job %s not renewed: %r", lease.job_id, error)


@cache
def _keeper(pid: int) -> _Keeper:
    """This process's: a thread does not survive a fork."""
    keeper = _Keeper()
    keeper.start()
    return keeper
