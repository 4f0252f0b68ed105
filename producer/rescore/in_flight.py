"""The jobs in flight, and what became of the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from contract import jobs
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
from producer.client import merging, splitting
from producer.client.blocking import RerankClient
from producer.client.waiting import Deadline, RetryWhileUnavailable, pause, require_worker
from producer.client.watch import Watch
from producer.rescore.journal import Journal
from producer.rescore.options import Options
from producer.rescore.progress import Progress

#: With no news for this long, the workers are asked whether they are there.
QUIET_S = 10.0
#: After so many refusals, what is in flight is left to expire.
MOST_REFUSALS = 3
#: How often a job that was lost, not scored, is sent again.
RESENDS = 3
#: Codes of failures that say so: of a run that is taken up, somebody gave up its jobs meanwhile, or
#: they have waited too long.
_LOST = {jobs.CANCELLED, JobNotFound.code, ResultExpired.code, PayloadMissing.code}


class _SplitQuery:
    """A query that is too large for a job, and what is known of its parts."""

    def __init__(
        self,
        job: jobs.Job,
        how: jobs.SplitJob,
        before: _SplitQuery | None,
        mixed: MixedModels | None,
    ) -> None:
        self.job = job
        self.how = how
        #: Why a smaller model is to score it than the one asked for, if so.
        self.mixed = mixed
        #: Results by the ids of the parts.
        self.results: dict[str, jobs.JobResult] = {}
        #: Ids of the jobs that can be forgotten when it has ended.
        self.sent_ids: list[str] = list(before.sent_ids) if before else []
        self.has_ended = False

    @property
    def is_complete(self) -> bool:
        """Whether all parts have results."""
        return len(self.results) == len(self.how.part_ids)

    def merged(self) -> jobs.JobResult:
        """Return the result of the whole. Raises `MixedModels`."""
        result = merging.merge_results(self.how, [self.results[each] for each in self.how.part_ids])
        if self.mixed is None:
            return result
        return merging.as_downgraded(result, self.job.id, self.mixed)


@dataclass(frozen=True)
class _Submission:
    """A job under one of its ids."""

    job: jobs.Job
    #: From 1; from 2 on, it stands in the id.
    number: int = 1
    #: Of what the job is a part.
    whole: _SplitQuery | None = None

    @property
    def id(self) -> str:
        return self.job.id if self.number == 1 else f"{self.job.id}.{self.number}"

    def again(self) -> _Submission:
        """The same job under its next id: what has ended once cannot be sent again."""
        return _Submission(self.job, self.number + 1, self.whole)


class JobsInFlight:
    """Keeps a number of jobs in flight, and takes in their outcomes."""

    def __init__(
        self,
        client: RerankClient,
        journal: Journal,
        options: Options,
        report_progress: Callable[[Progress], object],
        notify: Callable[[str], object],
    ) -> None:
        self.progress = journal.progress()
        self._client = client
        self._journal = journal
        self._options = options
        self._report_progress = report_progress
        self._notify = notify
        self._patiently = RetryWhileUnavailable(options.redis_wait_s, notify)
        #: Since the last job was accepted, or ended.
        self._idle = Deadline(options.max_wait_s, notify)
        self._in_flight: dict[str, _Submission] = {}
        #: To be sent again, or as parts of what has to be scored by another model.
        self._lost: deque[_Submission] = deque()
        #: Jobs whose results are not in the journal, because other parts have none yet.
        self._held: set[str] = set()
        self._watch: Watch | None = None

    def add(self, job: jobs.Job) -> None:
        """Send a job, or its parts, as soon as there is room; those to be sent again follow."""
        for submission in self._submissions(job):
            self._send(submission)
        while self._lost:
            self._send(self._lost.popleft())

    def finish(self) -> None:
        """Wait for all jobs."""
        while self._in_flight or self._lost:
            if self._lost:
                self._send(self._lost.popleft())
            else:
                self._collect()

    def cancel_all(self) -> None:
        """Cancel what is in flight, as far as Redis still answers."""
        refusals = 0
        for job_id in (*self._in_flight, *self._held):
            try:
                with suppress(JobNotFound):
                    self._client.cancel(job_id)
                self._client.forget(job_id)
            except RerankError:
                # One may be refused for its own sake; if all are, Redis is away.
                refusals += 1
                if refusals == MOST_REFUSALS:
                    return

    def close(self) -> None:
        """End the subscription."""
        if self._watch is not None:
            self._watch.__exit__()
            self._watch = None

    def _submissions(
        self, job: jobs.Job, before: _SplitQuery | None = None, mixed: MixedModels | None = None
    ) -> list[_Submission]:
        how = splitting.split(job, self._client.settings)
        if how is None:
            return [_Submission(job)]
        whole = _SplitQuery(job, how, before, mixed)
        return [_Submission(part, whole=whole) for part in splitting.parts(job, how)]

    def _send(self, submission: _Submission) -> None:
        while True:
            if submission.whole is not None and submission.whole.has_ended:
                return
            if len(self._in_flight) < self._options.window:
                refusal = self._offer(submission)
                if refusal is None:
                    break
                if not self._in_flight:
                    self._await_room(refusal)
                    continue
            self._collect()
        self._in_flight[submission.id] = submission
        self._idle.restart()

    def _offer(self, submission: _Submission) -> Overloaded | None:
        """Submit a job; return why it was not accepted."""
        job = submission.job.model_copy(update={"id": submission.id})
        try:
            self._patiently(lambda: self._client.submit_job(job, priority=self._options.priority))
        except Overloaded as refusal:
            return refusal
        return None

    def _await_room(self, refusal: Overloaded) -> None:
        """Let a while pass: what others have queued gets less as long as there are workers."""
        if self._idle.expired:
            raise refusal
        self._idle.explain(str(refusal))
        self._report_progress(self.progress)
        pause()
        self._patiently(self._require_worker)

    def _collect(self) -> None:
        """Wait for one or more jobs and take in their outcomes."""
        while not (ended := self._patiently(self._any_ended)):
            self._patiently(self._require_worker)
            self._explain_silence()
            self._report_progress(self.progress)
        for job_id, outcome in ended.items():
            # Only what is in the journal is forgotten: until then, Redis is where it is safe.
            for done in self._take(self._in_flight[job_id], outcome):
                self._patiently(partial(self._client.forget, done))
                self._held.discard(done)
            del self._in_flight[job_id]
        self._idle.restart()
        self._report_progress(self.progress)

    def _explain_silence(self) -> None:
        """Say what the jobs in flight wait for. Raises `ResultTimeout` if that took too long."""
        service = self._patiently(self._client.status)
        why = (
            f"{len(self._in_flight)} jobs in flight have no result yet;"
            f" {service.queue_depth:,} messages are on the queue,"
            f" {service.in_flight:,} jobs are being scored"
        )
        if self._idle.expired:
            raise ResultTimeout(f"no result within {self._idle.timeout_s:g} s (--max-wait): {why}")
        self._idle.explain(why)

    def _any_ended(self) -> dict[str, jobs.OutcomeOrError]:
        try:
            if self._watch is None:
                self._watch = self._client.watch().__enter__()
            return self._watch.any_of(self._in_flight, min(QUIET_S, self._idle.remaining_s))
        except RedisUnavailable:
            self.close()  # its connection may be lost, and with it the subscription
            raise

    def _require_worker(self) -> None:
        require_worker(self._client, self._options.worker_wait_s, self._notify)

    def _take(self, submission: _Submission, ended: jobs.OutcomeOrError) -> Sequence[str]:
        """Take in an outcome; return the ids of jobs that are needed no longer."""
        if isinstance(ended, RerankError):
            ended = ended.as_failure(submission.job.id, attempts=0)
        whole = submission.whole
        if whole is not None and whole.has_ended:
            return [submission.id]
        if isinstance(ended, jobs.Failure) and self._is_lost(submission, ended):
            self._lost.append(submission.again())
            return [submission.id]
        if whole is None:
            self._record(submission.job, ended)
            return [submission.id]
        return self._take_part(whole, submission, ended)

    def _is_lost(self, submission: _Submission, failure: jobs.Failure) -> bool:
        return self._journal.resumable and failure.code in _LOST and submission.number <= RESENDS

    def _take_part(
        self, whole: _SplitQuery, submission: _Submission, ended: jobs.JobResult | jobs.Failure
    ) -> Sequence[str]:
        whole.sent_ids.append(submission.id)
        if isinstance(ended, jobs.Failure):
            self._record(whole.job, merging.merge_failure(whole.how, submission.job.id, ended))
        else:
            whole.results[submission.job.id] = ended
            if not whole.is_complete:
                self._held.add(submission.id)
                return []
            if not self._record_whole(whole):
                self._held.add(submission.id)
                return []
        whole.has_ended = True
        for job_id, other in self._in_flight.items():
            if other.whole is whole and other is not submission:
                with suppress(JobNotFound):
                    self._patiently(partial(self._client.cancel, job_id))
        return whole.sent_ids

    def _record_whole(self, whole: _SplitQuery) -> bool:
        """Record what all parts have come to; False if a smaller model is to score all of them."""
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
                # The parts are kept until then, for a run that is taken up.
                self._lost.extend(self._submissions(again, whole, mixed))
                return False
        return True

    def _record(self, job: jobs.Job, ended: jobs.Outcome) -> None:
        if isinstance(ended, jobs.JobResult):
            self._check_model(ended)
            self._journal.add_result(ended)
            self._count(job, ended)
        else:
            self._journal.add_failure([each.query_id or "" for each in job.requests], ended)
            self._count_failed(job, ended)

    def _check_model(self, result: jobs.JobResult) -> None:
        """Raise `RerankError` for a result that another model, or other settings, have scored."""
        source = result.provenance
        first, now = self._journal.model_requested, source.model_requested
        length = self._journal.max_lengths.get(source.model, source.max_length)
        if first not in (None, now):
            differs = f"with {now!r}, the run so far with {first!r}"
            setting = f"CROSS_ENCODER_MODEL={first}"
        elif length != source.max_length:
            differs = (
                f"by {source.model!r} reading {source.max_length} tokens, the run so far by one"
                f" reading {length}"
            )
            setting = f"RERANKQ_MAX_LENGTH={length}"
        else:
            return
        # Scored by the same workers, the others have to be scored again as well.
        self.cancel_all()
        raise RerankError(
            f"job {result.job_id} was scored {differs}: start the workers with {setting}, or use"
            " --restart to begin anew"
        )

    def _count(self, job: jobs.Job, result: jobs.JobResult) -> None:
        progress, queries = self.progress, len(job.requests)
        progress.pairs += job.pairs
        progress.queries += queries
        progress.truncated += sum(each.truncated for each in result.rankings)
        progress.models[result.provenance.model] += queries
        if result.provenance.downgraded:
            progress.downgraded_queries += queries

    def _count_failed(self, job: jobs.Job, failure: jobs.Failure) -> None:
        progress, queries = self.progress, len(job.requests)
        progress.failed_pairs += job.pairs
        progress.failed_queries += queries
        progress.codes[failure.code] += queries
        progress.first_failure = progress.first_failure or failure.message
