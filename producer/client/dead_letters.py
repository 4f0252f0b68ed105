"""Procedures that list, retry and drop dead letters."""

from __future__ import annotations

from contract import jobs
from contract.errors import PayloadInvalid, RedisUnavailable
from contract.store import dead_letters, submissions
from contract.store.operation import Schema
from producer.client import preparing
from producer.client.publishing import Publisher
from producer.client.steps import Procedure, call, execute

#: The number of dead letters read in one operation; more would block Redis for other clients.
PAGE_SIZE = 200

FIRST_PAGE = dead_letters.Page()


def next_page(
    schema: Schema, page: dead_letters.Page
) -> Procedure[tuple[dead_letters.Page, list[jobs.DeadLetter]]]:
    """Return the page after `page` and its dead letters, newest first; no ids after the end.

    Dead letters that have since been retried or dropped are left out.
    """
    following = yield from execute(dead_letters.page(schema, page, PAGE_SIZE))
    if not following.ids:
        return following, []
    return following, (yield from execute(dead_letters.fetch(schema, following.ids)))


def newest(schema: Schema, at_most: int | None) -> Procedure[list[jobs.DeadLetter]]:
    """Return up to `at_most` dead letters, newest first; None returns all."""
    found: list[jobs.DeadLetter] = []
    page = FIRST_PAGE
    while at_most is None or len(found) < at_most:
        page, letters = yield from next_page(schema, page)
        if not page.ids:
            break
        found += letters
    return found[:at_most]


def find(schema: Schema, job_id: str) -> Procedure[jobs.DeadLetter]:
    """Return one dead letter. Raises `JobNotFound` or `RedisUnavailable`."""
    found = yield from execute(dead_letters.fetch(schema, [job_id]))
    if not found:
        raise dead_letters.not_found(job_id)
    return found[0]


def retry(schema: Schema, publisher: Publisher, job_id: str, model: str | None) -> Procedure[None]:
    """Queue a dead letter again under its id: see `RerankClient.retry`."""
    letter = yield from find(schema, job_id)
    if not letter.readable:
        raise PayloadInvalid(f"dead letter {job_id}: {letter.message}")
    job = yield from execute(dead_letters.load_job(schema, job_id))
    if model is not None:
        job = preparing.job(
            job.requests,
            schema.settings,
            model=model,
            job_id=job_id,
            allow_downgrade=job.allow_downgrade,
        )
    revival = yield from call(dead_letters.requeue, schema, job)
    if not (yield from execute(revival)):
        raise dead_letters.not_found(job_id)
    try:
        yield from call(publisher.send, job, letter.priority)
        yield from execute(submissions.mark_sent(schema, job_id))
    except RedisUnavailable as error:
        ours = RedisUnavailable(
            f"job {job_id} is queued again, but its message may not have been sent ({error}). If"
            " so, a worker sends it after RERANKQ_RESEND_AFTER_S seconds"
        )
        ours.submitted = (job_id,)
        raise ours from error


def drop(schema: Schema, job_id: str) -> Procedure[None]:
    """Drop a dead letter and its payload. Raises `JobNotFound` or `RedisUnavailable`."""
    if not (yield from execute(dead_letters.drop(schema, job_id))):
        raise dead_letters.not_found(job_id)
