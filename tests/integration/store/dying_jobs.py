"""Jobs that die, and their records."""

from __future__ import annotations

from contract import jobs
from contract.jobs import JobState
from contract.store import (
    attempts,
    dead_letters,
    outcomes,
    overview,
    statuses,
    submissions,
)
from contract.store.blocking import JobStore
from tests.integration.sample_records import failure_of
from tests.integration.stand_ins import begin


def die(store: JobStore, made: jobs.Job, code: str = "out_of_memory", priority: int = 6) -> None:
    """Fail a job in its second attempt, after the process of the first one was killed."""
    schema = store.schema
    store.execute(submissions.accept(schema, made, priority))
    store.execute(submissions.mark_sent(schema, made.id))
    store.execute(begin(schema, made.id, "first"))
    store.execute(attempts.release(schema, made.id, "first", downgrade="out_of_memory", died=True))
    assert store.execute(begin(schema, made.id, "second")).attempts == 2
    assert store.execute(
        outcomes.finish(schema, failure_of(made.id, code), "second", dead_letter=True)
    )


def ids(store: JobStore, at_most: int = 100) -> list[str]:
    return list(store.execute(dead_letters.page(store.schema, dead_letters.Page(), at_most)).ids)


def state_of(store: JobStore, job_id: str) -> JobState:
    return store.execute(statuses.fetch(store.schema, job_id)).state


def totals(store: JobStore) -> tuple[int, int, int]:
    """Return the number of jobs that are queued, that failed, and that are dead letters."""
    status = store.execute(overview.status(store.schema, []))
    return status.jobs[JobState.QUEUED], status.jobs[JobState.FAILED], status.dead_letters
