"""Keep a bounded number of jobs in flight, and collect their outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial

from contract import jobs
from contract.columns import JobColumns, ResultColumns
from contract.errors import (
    JobNotFound,
    MixedModels,
    Overloaded,
    PayloadMissing,
    RedisUnavailable,
    RerankError,
    ResultExpired,
    ResultTimeout,
)
from contract.printable import counted
from contract.store.outcomes import ColumnsOrError
from producer.client import merging
from producer.client.columns import ColumnsClient
from producer.client.waiting import Deadline, RetryWhileUnavailable, pause, require_worker
from producer.client.watch import OutcomeWatch
from producer.rescore.options import Options
from producer.rescore.outcomes import OutcomeRecorder, RunJournal
from producer.rescore.progress import Progress
from producer.rescore.submissions import SplitQuery, Submission, submissions
from producer.rescore.window import Window

#: If no job ends for this long, check that a worker answers.
QUIET_S = 10.0
#: After this many refused cancellations, the remaining jobs are left to expire.
MAX_REFUSALS = 3
#: The maximum number of times that a lost job is sent again.
MAX_RESENDS = 3
#: Codes of jobs that were lost without being scored: they expired, or were cancelled between two
#: starts of a run.
_LOST = {jobs.CANCELLED, JobNotFound.code, ResultExpired.code, PayloadMissing.code}


class JobsInFlight:
    """Sends jobs as earlier ones end, and records their outcomes."""

    def __init__(
        self,
        client: ColumnsClient,
        journal: RunJournal,
        options: Options,
        window: Window,
        observe: Callable[[jobs.Provenance], object],
        report_progress: Callable[[Progress], object],
        notify: Callable[[str], object],
    ) -> None:
        self._recorder = OutcomeRecorder(journal)
        self._client = client
        self._journal = journal
        self._options = options
        self._window = window
        self._observe = observe
        self._report_progress = report_progress
        self._notify = notify
        self._retry = RetryWhileUnavailable(options.redis_wait_s, notify)
        #: Restarted whenever a job is accepted or ends.
        self._idle = Deadline(options.max_wait_s, notify)
        self._in_flight: dict[str, Submission] = {}
        #: The number of characters in their texts.
        self._chars = 0
        #: Jobs that were lost, and parts of queries that another model must score.
        self._to_resend: deque[Submission] = deque()
        #: Scored parts that are not in the journal yet, because other parts are not scored.
        self._unrecorded: set[str] = set()
        self._watch: OutcomeWatch[ColumnsOrError] | None = None

    @property
    def progress(self) -> Progress:
        """Return what has been scored so far."""
        return self._recorder.progress

    def send_all(self, made: Iterable[jobs.Job | JobColumns]) -> None:
        """Send all jobs and wait for them.

        An error cancels those in flight, unless a resumed run collects them.
        """
        try:
            for job in made:
                self._add(job)
            self._finish()
        except BaseException:
            if not self._journal.resumable:
                self.cancel_all()
            raise
        finally:
            self._close()

    def _add(self, job: jobs.Job | JobColumns) -> None:
        """Send a job or its parts as soon as there is room; then resend lost jobs."""
        for submission in submissions(job, self._client.settings):
            self._send(submission)
        while self._to_resend:
            self._send(self._to_resend.popleft())

    def _finish(self) -> None:
        """Wait for all jobs."""
        while self._in_flight or self._to_resend:
            if self._to_resend:
                self._send(self._to_resend.popleft())
            else:
                self._collect()

    def cancel_all(self) -> None:
        """Cancel the jobs in flight, as long as Redis answers."""
        refusals = 0
        for job_id in (*self._in_flight, *self._unrecorded):
            try:
                with suppress(JobNotFound):
                    self._client.cancel(job_id)
                self._client.forget(job_id)
            except RerankError:
                # One refusal may concern only its job; several mean that Redis is away.
                refusals += 1
                if refusals == MAX_REFUSALS:
                    return

    def _close(self) -> None:
        """End the subscription."""
        if self._watch is not None:
            self._watch.__exit__()
            self._watch = None

    def _send(self, submission: Submission) -> None:
        while True:
            if submission.whole is not None and submission.whole.has_ended:
                return
            if self._window.has_room(len(self._in_flight), self._chars):
                # Noted before it is sent, so that it is cancelled after an interruption.
                self._in_flight[submission.id] = submission
                refusal = self._submit(submission)
                if refusal is None:
                    break
                del self._in_flight[submission.id]
                if not self._in_flight:
                    self._await_room(refusal)
                    continue
            self._collect()
        self._chars += submission.chars
        self._idle.restart()

    def _submit(self, submission: Submission) -> Overloaded | None:
        """Submit a job; return why it was not accepted."""
        job = submission.job.model_copy(update={"id": submission.id})
        priority = self._options.priority
        try:
            if isinstance(job, JobColumns):
                self._retry(partial(self._client.submit_columns, job, priority=priority))
            else:
                self._retry(partial(self._client.submit_job, job, priority=priority))
        except Overloaded as refusal:
            return refusal
        return None

    def _await_room(self, refusal: Overloaded) -> None:
        """Wait a moment, because the workers shorten the queue of other clients' jobs."""
        if self._idle.expired:
            raise refusal
        self._idle.explain(str(refusal))
        self._report_progress(self._recorder.progress)
        pause()
        self._retry(self._require_worker)

    def _collect(self) -> None:
        """Wait until one or more jobs have ended, and record their outcomes."""
        while not (ended := self._retry(self._any_ended)):
            self._retry(self._require_worker)
            self._explain_silence()
            self._report_progress(self._recorder.progress)
        for job_id, outcome in ended.items():
            # A result is removed from Redis only after it is in the journal.
            for done in self._accept(self._in_flight[job_id], outcome):
                self._retry(partial(self._client.forget, done))
                self._unrecorded.discard(done)
            self._chars -= self._in_flight.pop(job_id).chars
        self._idle.restart()
        self._report_progress(self._recorder.progress)

    def _explain_silence(self) -> None:
        """Report what the jobs in flight wait for. Raises `ResultTimeout` after `max_wait_s`."""
        service = self._retry(self._client.status)
        why = (
            f"{counted(len(self._in_flight), 'job')} of this run unfinished;"
            f" {counted(service.queue_depth, 'message')} in the queue,"
            f" {counted(service.in_flight, 'job')} running"
        )
        if not service.queue_depth and not service.in_flight:
            why += "; workers send lost messages again after a minute"
        if self._idle.expired:
            raise ResultTimeout(f"no result within {self._idle.timeout_s:g} s (--max-wait): {why}")
        self._idle.explain(why)

    def _any_ended(self) -> dict[str, ColumnsOrError]:
        try:
            if self._watch is None:
                self._watch = self._client.watch_columns().__enter__()
            return self._watch.any_of(self._in_flight, min(QUIET_S, self._idle.remaining_s))
        except RedisUnavailable:
            self._close()  # the connection of the subscription may be lost
            raise

    def _require_worker(self) -> None:
        require_worker(self._client, self._options.worker_wait_s, self._notify)

    def _accept(self, submission: Submission, ended: ColumnsOrError) -> Sequence[str]:
        """Record an outcome; return the ids of the jobs that can be forgotten."""
        if isinstance(ended, ResultColumns):
            self._observe(ended.provenance)
        if isinstance(ended, RerankError):
            ended = ended.as_failure(submission.job.id, attempts=0)
        whole = submission.whole
        if whole is not None and whole.has_ended:
            return [submission.id]
        if isinstance(ended, jobs.Failure) and self._is_lost(submission, ended):
            self._to_resend.append(submission.again())
            return [submission.id]
        if whole is None:
            self._record(submission.job, ended)
            return [submission.id]
        return self._accept_part(whole, submission, ended)

    def _is_lost(self, submission: Submission, failure: jobs.Failure) -> bool:
        # A failover of Redis can lose the record of a job in any run.
        lost = failure.code == JobNotFound.code or (
            self._journal.resumable and failure.code in _LOST
        )
        return lost and submission.number <= MAX_RESENDS

    def _accept_part(
        self, whole: SplitQuery, submission: Submission, ended: ResultColumns | jobs.Failure
    ) -> Sequence[str]:
        whole.sent_ids.append(submission.id)
        if isinstance(ended, jobs.Failure):
            self._record(whole.job, merging.merge_failure(whole.how, submission.job.id, ended))
        else:
            self._journal.add_part(ended)
            whole.results[submission.job.id] = ended.result()
            if not whole.is_complete:
                self._unrecorded.add(submission.id)
                return []
            if not self._record_whole(whole):
                self._unrecorded.add(submission.id)
                return []
        whole.has_ended = True
        for job_id, other in self._in_flight.items():
            if other.whole is whole and other is not submission:
                with suppress(JobNotFound):
                    self._retry(partial(self._client.cancel, job_id))
        return whole.sent_ids

    def _record_whole(self, whole: SplitQuery) -> bool:
        """Record the merged result; return False if a smaller model must first score all parts."""
        try:
            self._record(whole.job, whole.merged())
        except MixedModels as mixed:
            try:
                again = merging.with_smaller_model(
                    whole.job, mixed, self._client.settings, f"{whole.job.id}.all"
                )
            except MixedModels:
                self._record(whole.job, mixed.as_failure(whole.job.id, attempts=0))
            else:
                # The parts stay in Redis until then, in case the run is interrupted and resumed.
                self._to_resend.extend(
                    submissions(again, self._client.settings, before=whole, mixed=mixed)
                )
                return False
        return True

    def _record(self, job: jobs.Job | JobColumns, outcome: jobs.Outcome | ResultColumns) -> None:
        if not isinstance(outcome, jobs.Failure):
            mismatch = self._recorder.find_mismatch(outcome.job_id, job.model, outcome.provenance)
            if mismatch is not None:
                # The jobs in flight would also have to be scored again.
                self.cancel_all()
                raise RerankError(mismatch)
        self._recorder.record(job, outcome)
