"""The counts agree with the outcomes of the jobs, despite repetitions and faults."""

from __future__ import annotations

import pytest
import redis

from contract import jobs, metrics
from contract.errors import OutOfMemory, Overloaded
from contract.metrics import Counter
from contract.settings import Settings
from contract.store import attempts, dead_letters, outcomes, overview, submissions
from contract.store.attempts import Verdict
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from tests.integration.sample_records import failure_of, job, result_of
from tests.integration.stand_ins import begin
from tests.processes import wait_until

WORK = {metrics.SCORING_S.field("m"): 0.25, metrics.BATCHES.field("m"): 2}


def of(store: JobStore, counter: Counter) -> dict[str, float]:
    """Return the counts by label, without known labels whose count is zero."""
    counted = store.execute(overview.status(store.schema, [])).counters[counter.name]
    return {label: amount for label, amount in counted.items() if amount or not counter.values}


def test_nothing_was_counted_in_an_unused_service(store: JobStore) -> None:
    counted = store.execute(overview.status(store.schema, [])).counters

    assert set(counted) == {counter.name for counter in metrics.ALL}
    assert set(counted[metrics.JOBS_ENDED.name]) == {"done", "failed", "cancelled"}
    assert {"out_of_memory", "time_limit"} < set(counted[metrics.FAILURES.name])
    assert {amount for amounts in counted.values() for amount in amounts.values()} == {0.0}


def test_a_job_is_counted_once_however_often_it_is_submitted(store: JobStore) -> None:
    for _ in range(3):
        store.execute(submissions.accept(store.schema, job("j")))

    assert of(store, metrics.JOBS_ACCEPTED) == {"": 1}


def test_a_job_that_is_refused_is_not_counted(store: JobStore, settings: Settings) -> None:
    small = Schema(settings.model_copy(update={"max_queue_length": 1}))
    store.client.rpush(small.keys.queue, "a message")
    store.client.expire(small.keys.queue, 60)
    with pytest.raises(Overloaded):
        store.execute(submissions.accept(small, job("j")))

    assert of(store, metrics.JOBS_ACCEPTED) == {"": 0}


def test_a_result_is_counted_with_what_it_took(store: JobStore) -> None:
    # Given a job that has begun
    store.execute(submissions.accept(store.schema, job("j")))
    store.execute(begin(store.schema, "j"))
    result = result_of("j")
    made = result.provenance.model_copy(
        update={"model": "m", "pairs": 20, "unique_pairs": 17, "tokens": 900, "truncated": 3}
        | {"passages": "64/32/max", "passages_scored": 19, "lost_tokens": 41}
    )
    # When its result is recorded, twice
    for _ in range(2):
        outcome = result.model_copy(update={"provenance": made})
        store.execute(outcomes.finish(store.schema, outcome, counts=WORK))
    # Then all is counted once
    assert of(store, metrics.JOBS_ENDED) == {"done": 1}
    assert of(store, metrics.QUERIES) == {"m": len(result.rankings)}
    assert of(store, metrics.PAIRS) == {"m": 20}
    assert of(store, metrics.DUPLICATES) == {"m": 3}
    assert of(store, metrics.TOKENS) == {"m": 900}
    assert of(store, metrics.TRUNCATED) == {"m": 3}
    assert of(store, metrics.UNREAD) == {"m": 41}
    assert of(store, metrics.PASSAGES) == {"m": 19}
    assert of(store, metrics.BATCHES) == {"m": 2}
    assert of(store, metrics.SCORING_S) == {"m": 0.25}
    assert of(store, metrics.DOWNGRADES) == {}
    assert of(store, metrics.FAILURES) == {}
    assert of(store, metrics.ATTEMPTS) == {"": 1}


def test_a_downgraded_result_is_counted_by_its_reason(store: JobStore) -> None:
    store.execute(submissions.accept(store.schema, job("j")))
    result = result_of("j")
    made = result.provenance.model_copy(update={"downgraded": True, "reason": "out_of_memory"})
    store.execute(outcomes.finish(store.schema, result.model_copy(update={"provenance": made})))

    assert of(store, metrics.DOWNGRADES) == {"out_of_memory": 1}


def test_failures_are_counted_by_code_and_cancellations_are_none(store: JobStore) -> None:
    for job_id, code in (("a", "bad_scores"), ("b", "bad_scores"), ("c", jobs.CANCELLED)):
        store.execute(submissions.accept(store.schema, job(job_id)))
        store.execute(outcomes.finish(store.schema, failure_of(job_id, code)))

    assert of(store, metrics.FAILURES) == {"bad_scores": 2}
    assert of(store, metrics.JOBS_ENDED) == {"failed": 2, "cancelled": 1}


def test_an_attempt_that_hands_its_job_over_is_counted_with_what_it_took(store: JobStore) -> None:
    store.execute(submissions.accept(store.schema, job("j")))
    store.execute(begin(store.schema, "j", "first"))
    for _ in range(2):
        store.execute(
            attempts.release(
                store.schema,
                "j",
                "first",
                downgrade=OutOfMemory.code,
                counts={metrics.SHORTAGES.field("m"): 4, metrics.HALVINGS.field("m"): 3},
            )
        )
    store.execute(begin(store.schema, "j", "second"))

    assert of(store, metrics.SHORTAGES) == {"m": 4}
    assert of(store, metrics.HALVINGS) == {"m": 3}
    assert of(store, metrics.ATTEMPTS) == {"": 2}
    assert of(store, metrics.DEATHS) == {"": 0}


def test_an_attempt_whose_process_was_killed_is_counted(store: JobStore) -> None:
    # Given an attempt that the main process saw die, and one that stopped renewing its lease
    store.execute(submissions.accept(store.schema, job("j")))
    store.execute(begin(store.schema, "j", "first"))
    store.execute(attempts.release(store.schema, "j", "first", died=True))
    store.execute(begin(store.schema, "j", "second"))
    store.client.delete(store.schema.keys.lease("j"))
    # When another begins
    third = attempts.start(store.schema, "j", "third", max_attempts=5, lease_s=0.3)
    wait_until(lambda: store.execute(third).verdict is Verdict.STARTED, "the third attempt begins")
    # Then both deaths are counted
    assert of(store, metrics.DEATHS) == {"": 2}
    assert of(store, metrics.ATTEMPTS) == {"": 3}


def test_a_dead_letter_that_is_tried_again_is_accepted_again(store: JobStore) -> None:
    store.execute(submissions.accept(store.schema, job("j")))
    store.execute(outcomes.finish(store.schema, failure_of("j"), dead_letter=True))
    store.execute(dead_letters.requeue(store.schema, job("j")))
    store.execute(outcomes.finish(store.schema, result_of("j")))

    assert of(store, metrics.JOBS_ACCEPTED) == {"": 2}
    assert of(store, metrics.JOBS_ENDED) == {"failed": 1, "done": 1}


def test_what_belongs_to_no_job_is_counted_too(store: JobStore) -> None:
    for _ in range(2):
        store.execute(overview.count(store.schema, {metrics.LOADS.field("a model/with space"): 1}))

    assert of(store, metrics.LOADS) == {"a model/with space": 2}
    assert of(store, metrics.SHORTAGES) == {"a model/with space": 0}


def test_a_counter_that_cannot_be_written_keeps_no_job_from_its_end(
    store: JobStore, client: redis.Redis
) -> None:
    # Given another type of key in place of the counters
    client.set(store.schema.keys.counters, "no hash", ex=60)
    # When a job runs
    store.execute(submissions.accept(store.schema, job("j")))
    store.execute(begin(store.schema, "j"))
    assert store.execute(outcomes.finish(store.schema, result_of("j"), counts=WORK))
    # Then it has its outcome
    assert store.execute(outcomes.fetch(store.schema, ["j"])) == {"j": result_of("j")}


def test_the_counters_expire_when_nothing_is_counted_for_long(
    store: JobStore, client: redis.Redis
) -> None:
    store.execute(submissions.accept(store.schema, job("j")))

    assert 0 < client.ttl(store.schema.keys.counters) <= store.schema.settings.job_ttl_s
