"""Submit the jobs of a batch, several at once, for both clients.

Each step is a procedure: see `producer.client.steps`.
"""

from __future__ import annotations

import time
from collections import deque

from contract import jobs
from contract.store import batches, submissions
from contract.store.batches import StoredBatch
from contract.store.operation import Schema
from contract.store.submissions import EncodedJob
from producer.client import batch_procedures, procedures, splitting
from producer.client.preparing import PreparedJobs
from producer.client.publishing import Publisher
from producer.client.steps import Procedure, call, execute

#: The number of jobs that are stored and sent together. It takes about a millisecond of Redis, and
#: other threads of the client wait for a few milliseconds.
SENT_AT_ONCE = 20
#: No job is added to those that have this many bytes together.
BYTES_AT_ONCE = 1024 * 1024
#: How often a process that submits a batch says that it is alive.
ALIVE_EVERY_S = 1.0


class BatchSubmission:
    """The submission of a batch: it says that it is alive, and ends if the batch is cancelled."""

    def __init__(self, schema: Schema, publisher: Publisher, prepared: PreparedJobs) -> None:
        self._schema = schema
        self._publisher = publisher
        self._prepared = prepared
        #: The jobs that are not queued yet.
        self._left = deque(prepared.jobs)
        #: The ids of the jobs that may be queued.
        self._begun: list[str] = []
        self._stored: StoredBatch | None = None
        self._noted_at = 0.0
        self.has_ended = False

    @property
    def batch(self) -> StoredBatch:
        """The record of the batch, once it is stored."""
        if self._stored is None:
            raise RuntimeError("the batch is not stored yet")
        return self._stored

    def advance(self) -> Procedure[None]:
        """Store the batch, or queue its next jobs, or note that all are queued.

        Raises `JobConflict` if its id is taken, and the errors of `submit`.
        """
        if self._stored is None:
            self._stored = yield from batch_procedures.accept(self._schema, self._prepared)
            self._noted_at = time.monotonic()
        elif self._left and not (yield from self._is_cancelled()):
            yield from self._queue_next()
        else:
            self.has_ended = True
            yield from self._finish()

    def withdraw(self, error: BaseException) -> Procedure[None]:
        """Withdraw the jobs that may be queued, after an error: see `batch_procedures.withdraw`."""
        return batch_procedures.withdraw(self._schema, error, self._stored, self._begun)

    def _is_cancelled(self) -> Procedure[bool]:
        """Return whether another caller has cancelled the batch; ask Redis once a second."""
        if time.monotonic() - self._noted_at < ALIVE_EVERY_S:
            return False
        cancelled = yield from execute(batches.note(self._schema, self.batch.id, "alive_at"))
        self._noted_at = time.monotonic()
        return cancelled

    def _finish(self) -> Procedure[None]:
        """Note that all jobs are queued; cancel them if the batch was cancelled meanwhile."""
        if (yield from execute(batches.note(self._schema, self.batch.id, "queued_at"))):
            yield from batch_procedures.cancel_batch(self._schema, self.batch)

    def _queue_next(self) -> Procedure[None]:
        """Queue jobs together, or one that is split into several."""
        encoded = yield from call(self._encode_next)
        if encoded:
            yield from self._queue_all(encoded)
        else:
            yield from self._queue_one(self._left[0])

    def _encode_next(self) -> list[EncodedJob]:
        """Return the next jobs, up to the first one that is split."""
        settings = self._schema.settings
        encoded: list[EncodedJob] = []
        size = 0
        for job in self._left:
            if len(encoded) == SENT_AT_ONCE or size >= BYTES_AT_ONCE:
                break
            if splitting.split(job, settings) is not None:
                break
            encoded.append(EncodedJob.of(settings, job))
            size += len(encoded[-1].payload)
        return encoded

    def _queue_all(self, encoded: list[EncodedJob]) -> Procedure[None]:
        prepared, begun = self._prepared, len(self._begun)
        self._begun += [each.id for each in encoded]
        offer = submissions.accept_all(
            self._schema, encoded, prepared.priority, prepared.group, prepared.trace
        )
        found = yield from execute(offer)
        count = len(found.stored)
        del self._begun[begun + count + (found.refusal is not None) :]
        some = [self._left.popleft() for _ in range(count)]
        yield from self._send(
            [
                job
                for job, stored in zip(some, found.stored, strict=True)
                if not stored.sent and stored.split is None
            ]
        )
        for job, stored in zip(some, found.stored, strict=True):
            if stored.split is not None:  # in another submission, under other limits
                yield from self._queue_split(job)
        if found.refusal is not None:
            raise found.refusal

    def _send(self, unsent: list[jobs.Job]) -> Procedure[None]:
        if unsent:
            prepared = self._prepared
            yield from call(self._publisher.send_all, unsent, prepared.priority, prepared.trace)
            ids = [job.id for job in unsent]
            yield from execute(submissions.mark_sent(self._schema, *ids))

    def _queue_one(self, job: jobs.Job) -> Procedure[None]:
        self._begun.append(job.id)
        yield from self._queue_split(job)
        self._left.popleft()

    def _queue_split(self, job: jobs.Job) -> Procedure[None]:
        prepared = self._prepared
        yield from procedures.queue(
            self._schema,
            self._publisher,
            job,
            prepared.priority,
            prepared.trace,
            prepared.group,
        )
