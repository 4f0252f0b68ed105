"""Dead letters as a producer sees them: to list, to queue again, to give up."""

from __future__ import annotations

from collections.abc import Iterator

from contract import jobs
from contract.errors import PayloadInvalid, RedisUnavailable
from contract.settings import Settings
from contract.store import dead_letters, submissions
from contract.store.blocking import JobStore
from producer.client import preparing
from producer.client.publishing import Publisher

#: Letters read in one operation: with more, Redis would keep others waiting.
AT_ONCE = 200


class DeadLetters:
    """The dead letters of one service. Safe to share between threads."""

    def __init__(self, settings: Settings, store: JobStore, publisher: Publisher) -> None:
        self._settings = settings
        self._store = store
        self._schema = store.schema
        self._publisher = publisher

    def count(self) -> int:
        """Return how many there are. Raises `RedisUnavailable`."""
        return self._store.execute(dead_letters.count(self._schema))

    def each(self) -> Iterator[jobs.DeadLetter]:
        """Yield all of them, the last first, also while they are retried or dropped.

        Those that die meanwhile are not among them. Raises `RedisUnavailable`.
        """
        page = dead_letters.Page()
        while (page := self._store.execute(dead_letters.page(self._schema, page, AT_ONCE))).ids:
            yield from self._store.execute(dead_letters.fetch(self._schema, page.ids))

    def get(self, job_id: str) -> jobs.DeadLetter:
        """Return one of them. Raises `JobNotFound` or `RedisUnavailable`."""
        found = self._store.execute(dead_letters.fetch(self._schema, [job_id]))
        if not found:
            raise dead_letters.not_found(job_id)
        return found[0]

    def retry(self, job_id: str, model: str | None) -> None:
        """See `RerankClient.retry`."""
        letter = self.get(job_id)
        if not letter.readable:
            raise PayloadInvalid(f"dead letter {job_id}: {letter.message}")
        job = self._store.execute(dead_letters.load_job(self._schema, job_id))
        if model is not None:
            job = preparing.job(
                job.requests,
                self._settings,
                model=model,
                job_id=job_id,
                allow_downgrade=job.allow_downgrade,
            )
        if not self._store.execute(dead_letters.requeue(self._schema, job)):
            raise dead_letters.not_found(job_id)
        try:
            self._publisher.send(job, letter.priority)
            self._store.execute(submissions.mark_sent(self._schema, job_id))
        except RedisUnavailable as error:
            ours = RedisUnavailable(
                f"job {job_id} is queued again, but its message may not have been sent ({error}):"
                " workers look for such jobs every RERANKQ_RESEND_AFTER_S"
            )
            ours.submitted = (job_id,)
            raise ours from error

    def drop(self, job_id: str) -> None:
        """See `RerankClient.drop`."""
        if not self._store.execute(dead_letters.drop(self._schema, job_id)):
            raise dead_letters.not_found(job_id)
