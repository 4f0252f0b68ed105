"""Renew the leases of a process's attempts, and stop an attempt that no longer counts.

One thread renews the leases of all attempts, because a thread pool has several at a time. While a
lease is renewed, no other worker scores the job. Once the process has been killed, the lease
expires and another worker may take the job.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from contract.errors import RerankError, TimeLimitExceeded
from contract.printable import counted
from contract.store import attempts
from contract.store.operation import Operation, Schema
from worker.jobs.soft_limit import SoftTimeLimit
from worker.runtime.connection import MAIN_TIMEOUT_S
from worker.runtime.context import WorkerContext
from worker.runtime.settings import WorkerSettings

logger = logging.getLogger(__name__)

#: EX_SOFTWARE of sysexits.h: scoring did not stop at the time limit, so the process ended itself.
EXIT_STUCK = 70

#: Renewals per lease duration. If some are missed, a third of the lease is added.
RENEWALS = 6


class Leases:
    """The leases of a process's attempts. Only one scores at a time: there is one model."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._scoring_lock = threading.Lock()
        self.soft_limit = SoftTimeLimit()
        self._starting = threading.Lock()
        self._renewer: LeaseRenewer | None = None
        self._pid = 0

    def lease(self, job_id: str, token: str) -> Lease:
        """Return a lease that is not renewed."""
        return Lease(job_id, token, self._context.settings, self._scoring_lock, self.soft_limit)

    @contextmanager
    def renewed(self, lease: Lease) -> Iterator[Lease]:
        """Renew a lease until the end of the block."""
        held = self._running_renewer().leases
        held[lease.token] = lease
        try:
            yield lease
        finally:
            del held[lease.token]

    def close(self) -> None:
        """Stop renewing leases."""
        if self._renewer is not None:
            self._renewer.stop()

    def _running_renewer(self) -> LeaseRenewer:
        with self._starting:
            # A thread does not survive a fork.
            if self._renewer is None or self._pid != os.getpid():
                self._renewer, self._pid = LeaseRenewer(self._context), os.getpid()
            return self._renewer


class LeaseRenewer(threading.Thread):
    """A thread that renews the leases of running attempts."""

    def __init__(self, context: WorkerContext) -> None:
        super().__init__(name="leases", daemon=True)
        #: Leases by token.
        self.leases: dict[str, Lease] = {}
        self._context = context
        self._stopped = threading.Event()
        self.start()

    def run(self) -> None:
        """Renew all leases periodically."""
        while not self._stopped.wait(self._context.settings.lease_s / RENEWALS):
            leases = list(self.leases.values())
            if leases:
                self._end_if_stuck(leases)
                self._renew(leases)

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        self.join()

    def _renew(self, leases: list[Lease]) -> None:
        context = self._context
        try:
            renewals = _renewals(context.schema, leases, context.settings.lease_s)
            still = context.store(MAIN_TIMEOUT_S).execute(renewals)
            for lease, counts in zip(leases, still, strict=True):
                lease.lost = not counts
        # Memory can run out here too. Without this thread, all later leases would expire.
        except Exception as error:  # noqa: BLE001
            logger.warning("Failed to renew %s: %r", counted(len(leases), "lease"), error)

    def _end_if_stuck(self, leases: list[Lease]) -> None:
        """End the process if a job does not stop; without child processes, no parent can end it.

        Another worker finds its jobs, whose leases expire. A child process is ended by its parent.
        """
        settings = self._context.settings
        for lease in leases:
            if lease.scoring and lease.seconds > settings.time_limit_s + settings.lease_s:
                logger.critical(
                    "Process exiting: job %s has been scoring for %.0f s and does not stop at the"
                    " time limit of %d s (RERANKQ_TIME_LIMIT_S)",
                    lease.job_id,
                    lease.seconds,
                    settings.time_limit_s,
                )
                logging.shutdown()
                os._exit(EXIT_STUCK)


def _renewals(schema: Schema, leases: Sequence[Lease], lease_s: float) -> Operation[list[bool]]:
    """Renew all leases in one operation, so that a slow one does not delay the others."""
    each = [attempts.renew(schema, lease.job_id, lease.token, lease_s) for lease in leases]

    def send(pipe: Any) -> None:
        for renewal in each:
            renewal.send(pipe)

    def read(replies: list[Any]) -> list[bool]:
        return [renewal.read([reply]) for renewal, reply in zip(each, replies, strict=True)]

    return Operation(send, read)


#: Interval for checking whether an attempt still counts while it waits for its turn.
SLOT_POLL_S = 0.5


class Superseded(RerankError):
    """The attempt no longer counts: the job was cancelled, or another attempt ended it."""

    code = "superseded"


class Lease:
    """The lease of one attempt at a job. `scoring_lock` lets one attempt at a time score."""

    def __init__(
        self,
        job_id: str,
        token: str,
        settings: WorkerSettings,
        scoring_lock: threading.Lock,
        soft_limit: SoftTimeLimit,
    ) -> None:
        self.job_id = job_id
        self.token = token
        self.lost = False
        #: Whether this attempt is the one that scores.
        self.scoring = False
        #: The block that the signal of the time limit may interrupt.
        self.soft_limit = soft_limit
        self.began = time.monotonic()
        self._settings = settings
        self._scoring_lock = scoring_lock

    @property
    def seconds(self) -> float:
        """Seconds since the attempt started, or since it got its turn to score."""
        return time.monotonic() - self.began

    @contextmanager
    def scoring_slot(self) -> Iterator[None]:
        """Wait until no other attempt of this process scores, then start the time limit.

        Raises `Superseded`.
        """
        while not self._scoring_lock.acquire(timeout=SLOT_POLL_S):
            self.check_counts()
        try:
            self.began = time.monotonic()
            self.scoring = True
            yield
        finally:
            self.scoring = False
            self._scoring_lock.release()

    def check(self) -> None:
        """Raise `Superseded` or `TimeLimitExceeded`. Called before each batch.

        Celery does not enforce its own time limit while Redis is unavailable, or in threads.
        """
        self.check_counts()
        if self.seconds > self._settings.soft_time_limit_s:
            raise time_limit_error(self._settings)

    def check_counts(self) -> None:
        """Raise `Superseded`."""
        if self.lost:
            raise Superseded(f"job {self.job_id} ended during this attempt")


def time_limit_error(settings: WorkerSettings) -> TimeLimitExceeded:
    """Return the error for a job that exceeds the time limit."""
    return TimeLimitExceeded(
        f"not finished within {settings.soft_time_limit_s} s (RERANKQ_SOFT_TIME_LIMIT_S)."
        " Submit fewer pairs per job"
    )


def token_prefix(worker: str, pid: int) -> str:
    """Return the prefix of all tokens of one process."""
    return f"{worker}:{pid}:"


def new_token(worker: str) -> str:
    """Return a token for an attempt in this process."""
    return token_prefix(worker, os.getpid()) + uuid.uuid4().hex
