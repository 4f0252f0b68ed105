"""The blocking client queues each job once, and returns its one outcome to every waiting caller."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from contract import jobs, names
from contract.errors import (
    InvalidInput,
    JobConflict,
    JobFailed,
    JobNotFound,
    LimitExceeded,
    ModelNotAllowed,
    PayloadInvalid,
    ResultTimeout,
)
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import outcomes, submissions
from contract.store.blocking import JobStore
from producer.client import preparing
from producer.client.blocking import RerankClient
from tests.integration.redis_state import (
    PATIENCE_S,
    await_subscribers,
    keys_of,
    messages,
    payload,
    subscribers,
)
from tests.integration.sample_records import DOCUMENTS, QUERY, failure_of, job, request, result_of
from tests.integration.stand_ins import begin, busy_channel, play_worker, unheard
from tests.processes import wait_until


@pytest.fixture
def reranker(settings: Settings) -> Iterator[RerankClient]:
    with RerankClient(settings) as made:
        yield made


def finish(store: JobStore, outcome: jobs.Outcome) -> bool:
    """End a job like a worker."""
    return store.execute(outcomes.finish(store.schema, outcome))


def client_of(settings: Settings, **limits: Any) -> RerankClient:
    """Return a client with other limits."""
    return RerankClient(settings.model_copy(update=limits))


# Submitting


def test_submit_puts_one_message_on_the_queue_with_id_and_counts_only(
    reranker: RerankClient, client: redis.Redis, settings: Settings
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)

    (message,) = messages(client, settings)
    assert (message.id, message.task) == (job_id, "rerankq.score")
    assert message.arguments == [job_id]
    assert message.counts == {"requests": 1, "pairs": 2}


def test_no_message_holds_a_query_or_a_document(
    reranker: RerankClient, client: redis.Redis, settings: Settings
) -> None:
    reranker.submit("secret query", [{"id": "secret id", "text": "secret text"}])
    reranker.submit_many([{"query": "secret", "candidates": [{"id": "secret", "text": "secret"}]}])

    first, second = messages(client, settings)
    assert "secret" not in first.text
    assert "secret" not in second.text


def test_what_was_submitted_is_what_a_worker_loads(reranker: RerankClient, store: JobStore) -> None:
    documents: list[preparing.Document] = [
        "a text alone",
        {"text": "without an id"},
        {"id": "x", "text": "with all", "score": 2.5, "metadata": {"page": 7}},
        jobs.Candidate(id="y", text="a record"),
    ]

    job_id = reranker.submit("who?", documents, top_k=3, model="bundled")

    loaded = store.execute(payload(store.schema, job_id))
    assert (loaded.id, loaded.model) == (job_id, "bundled")
    assert loaded.requests == (
        jobs.Request(
            query="who?",
            top_k=3,
            candidates=(
                jobs.Candidate(id="0", text="a text alone"),
                jobs.Candidate(id="1", text="without an id"),
                jobs.Candidate(id="x", text="with all", score=2.5, metadata={"page": 7}),
                jobs.Candidate(id="y", text="a record"),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("priority", "step"), [(0, 0), (1, 0), (2, 0), (3, 3), (5, 3), (6, 6), (8, 6), (9, 9)]
)
def test_a_message_lies_on_the_list_of_its_priority(
    reranker: RerankClient, client: redis.Redis, settings: Settings, priority: int, step: int
) -> None:
    reranker.submit(QUERY, DOCUMENTS, priority=priority)
    reranker.submit_many([request()], priority=priority)

    assert [message.step for message in messages(client, settings)] == [step, step]


def test_a_single_job_goes_before_bulk_work(
    reranker: RerankClient, client: redis.Redis, settings: Settings
) -> None:
    (bulk,) = reranker.submit_many([request()])
    single = reranker.submit(QUERY, DOCUMENTS)

    assert [(each.id, each.step) for each in messages(client, settings)] == [
        (single, names.PRIORITY_SINGLE),
        (bulk, names.PRIORITY_BULK),
    ]


def test_submitting_the_same_id_again_sends_one_message(
    reranker: RerankClient, client: redis.Redis, settings: Settings
) -> None:
    ids = [reranker.submit(QUERY, DOCUMENTS, job_id="mine") for _ in range(3)]

    assert ids == ["mine"] * 3
    assert [message.id for message in messages(client, settings)] == ["mine"]


def test_submitting_an_ended_job_again_sends_nothing_and_keeps_its_result(
    reranker: RerankClient, client: redis.Redis, settings: Settings, store: JobStore
) -> None:
    # Given a job that a worker took from the queue and finished
    reranker.submit(QUERY, DOCUMENTS, job_id="mine")
    client.delete(*names.Keys(settings.namespace).queue_lists)
    finish(store, result_of("mine"))
    # When it is submitted again
    reranker.submit(QUERY, DOCUMENTS, job_id="mine")
    # Then nothing runs again
    assert messages(client, settings) == []
    assert reranker.result("mine", PATIENCE_S) == result_of("mine")


def test_an_id_with_other_contents_is_a_conflict_and_sends_nothing_more(
    reranker: RerankClient, client: redis.Redis, settings: Settings
) -> None:
    reranker.submit(QUERY, DOCUMENTS, job_id="mine")

    with pytest.raises(JobConflict, match="mine"):
        reranker.submit(QUERY, DOCUMENTS[:1], job_id="mine")

    assert [message.counts["pairs"] for message in messages(client, settings)] == [2]


def test_a_submission_that_broke_off_before_its_message_is_completed_by_another(
    reranker: RerankClient, client: redis.Redis, settings: Settings, store: JobStore
) -> None:
    # Given a job whose producer ended between record and message
    made = job("mine")
    store.execute(submissions.accept(store.schema, made))
    assert messages(client, settings) == []
    # When it is submitted again
    reranker.submit_job(made)
    # Then its message is on the queue
    assert [message.id for message in messages(client, settings)] == ["mine"]


def test_one_client_serves_many_threads(
    reranker: RerankClient, client: redis.Redis, settings: Settings
) -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: reranker.submit(QUERY, DOCUMENTS), range(40)))

    assert len(set(ids)) == 40
    assert sorted(message.id for message in messages(client, settings)) == sorted(ids)


# Submitting many


def test_submit_many_packs_requests_into_few_jobs_in_their_order(
    reranker: RerankClient, client: redis.Redis, settings: Settings, store: JobStore
) -> None:
    requests = [request(documents=3, query_id=f"q{place}") for place in range(7)]

    ids = reranker.submit_many(requests, pairs_per_job=6)

    loaded = [store.execute(payload(store.schema, job_id)) for job_id in ids]
    assert [message.id for message in messages(client, settings)] == ids
    assert [message.counts for message in messages(client, settings)] == [
        {"requests": 2, "pairs": 6},
        {"requests": 2, "pairs": 6},
        {"requests": 2, "pairs": 6},
        {"requests": 1, "pairs": 3},
    ]
    assert [each for made in loaded for each in made.requests] == requests


def test_submit_many_keeps_to_the_limit_of_pairs(client: redis.Redis, settings: Settings) -> None:
    with client_of(settings, max_pairs_per_job=4) as reranker:
        reranker.submit_many([request(documents=2) for _ in range(5)])
        reranker.submit_many([request(documents=2) for _ in range(2)], pairs_per_job=1_000)

    assert [each.counts["pairs"] for each in messages(client, settings)] == [4, 4, 2, 4]


@pytest.mark.parametrize("letter", ["a", "ü", "語", "\U0001f600"])
def test_submit_many_keeps_to_the_limit_of_bytes_in_any_script(
    client: redis.Redis, settings: Settings, letter: str
) -> None:
    """Submit requests that are each far below the limit, and above it together."""
    requests = [request(documents=1, query=f"{place}{letter * 100}") for place in range(40)]

    with client_of(settings, max_bytes_per_job=4_000) as reranker:
        ids = reranker.submit_many(requests)

    sent = messages(client, settings)
    assert len(ids) > 1
    assert [each.id for each in sent] == ids
    assert sum(each.counts["requests"] for each in sent) == len(requests)


def test_submit_many_takes_dicts_and_no_requests_are_no_jobs(
    reranker: RerankClient, client: redis.Redis, settings: Settings
) -> None:
    ids = reranker.submit_many([{"query": "q", "candidates": [{"id": "a", "text": "t"}]}])

    assert reranker.submit_many([]) == []
    assert [each.id for each in messages(client, settings)] == ids


GOOD = {"query": "q", "candidates": [{"id": "a", "text": "t"}]}
#: No text is too long, but no job can hold the document.
MANY_BYTES = GOOD | {"candidates": [{"id": "a", "text": "t", "metadata": {"m": "x" * 5_000}}]}


@pytest.mark.parametrize(
    ("bad", "kind", "says"),
    [
        (GOOD | {"query": " "}, InvalidInput, "request 2: query: must not be blank"),
        (GOOD | {"candidates": []}, InvalidInput, "request 2: candidates"),
        (GOOD | {"surprise": 1}, InvalidInput, "request 2: surprise: unknown field"),
        (GOOD | {"candidates": [{"id": "a", "text": "x" * 501}]}, LimitExceeded, "501 char"),
        (MANY_BYTES, LimitExceeded, "bytes"),
    ],
    ids=["blank query", "no candidates", "unknown field", "long text", "many bytes"],
)
def test_one_bad_request_among_many_sends_none(
    client: redis.Redis,
    settings: Settings,
    bad: dict[str, Any],
    kind: type[InvalidInput],
    says: str,
) -> None:
    limits = {"max_pairs_per_job": 5, "max_text_chars": 500, "max_bytes_per_job": 5_000}
    with (
        client_of(settings, **limits) as reranker,
        pytest.raises(kind, match=says),
    ):
        reranker.submit_many([GOOD, GOOD, bad, GOOD], pairs_per_job=1)

    assert keys_of(client, settings) == []


# Bad input


@pytest.mark.parametrize(
    ("query", "documents", "options", "kind"),
    [
        ("", ["d"], {}, InvalidInput),
        (" \n\t", ["d"], {}, InvalidInput),
        ("\ud800", ["d"], {}, InvalidInput),
        ("q", [], {}, InvalidInput),
        ("q", ["\udfff"], {}, InvalidInput),
        ("q", [5], {}, InvalidInput),
        ("q", [None], {}, InvalidInput),
        ("q", [{"id": "a"}], {}, InvalidInput),
        ("q", [{"id": "", "text": "t"}], {}, InvalidInput),
        ("q", [{"id": "a", "text": "t"}, {"id": "a", "text": "u"}], {}, InvalidInput),
        ("q", [{"id": "1", "text": "t"}, "its place is 1"], {}, InvalidInput),
        ("q", [{"text": "t", "titel": "u"}], {}, InvalidInput),
        ("q", [{"text": "t", "score": float("nan")}], {}, InvalidInput),
        ("q", [{"text": "t", "metadata": {"x": float("inf")}}], {}, InvalidInput),
        ("q", [{"text": "t", "metadata": {"x": object()}}], {}, InvalidInput),
        ("q", [{"text": "t", "metadata": {"x": "\ud800"}}], {}, InvalidInput),
        ("q", ["d"], {"top_k": 0}, InvalidInput),
        ("q", ["d"], {"priority": 10}, InvalidInput),
        ("q", ["d"], {"priority": -1}, InvalidInput),
        ("q", ["d"], {"job_id": "not an id"}, InvalidInput),
        ("q", ["d"], {"job_id": "x" * 129}, InvalidInput),
        ("q", ["d"], {"job_id": "a\n"}, InvalidInput),
        ("q", ["d"], {"model": ""}, InvalidInput),
        ("q", ["d"], {"model": "someone/elses-model"}, ModelNotAllowed),
        ("q", ["x" * 501], {}, LimitExceeded),
        ("x" * 501, ["d"], {}, LimitExceeded),
        ("q", ["語" * 400], {}, LimitExceeded),
    ],
    ids=[
        "empty query",
        "blank query",
        "a lone surrogate in the query",
        "no documents",
        "a lone surrogate in a text",
        "a number for a document",
        "none for a document",
        "no text",
        "empty document id",
        "equal document ids",
        "a given id that is another's place",
        "unknown field",
        "NaN score",
        "infinite metadata",
        "an object in metadata",
        "a lone surrogate in metadata",
        "top_k of 0",
        "priority above 9",
        "priority below 0",
        "id with spaces",
        "long id",
        "id with a line end",
        "empty model",
        "unknown model",
        "long document",
        "long query",
        "many bytes",
    ],
)
def test_invalid_input_sends_nothing(
    client: redis.Redis,
    settings: Settings,
    query: str,
    documents: list[Any],
    options: dict[str, Any],
    kind: type[InvalidInput],
) -> None:
    limits = {"max_pairs_per_job": 5, "max_text_chars": 500, "max_bytes_per_job": 1_000}
    with client_of(settings, **limits) as reranker, pytest.raises(kind) as invalid:
        reranker.submit(query, documents, **options)

    assert isinstance(invalid.value, ValueError)
    assert keys_of(client, settings) == []


# Waiting


def test_result_gives_what_was_recorded_before_it_waited(
    reranker: RerankClient, store: JobStore
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    finish(store, result_of(job_id))

    assert reranker.result(job_id, PATIENCE_S) == result_of(job_id)


def test_result_can_be_read_again(reranker: RerankClient, store: JobStore) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    finish(store, result_of(job_id))

    assert reranker.result(job_id) == reranker.result(job_id)


@pytest.mark.parametrize("timeout", [PATIENCE_S, None], ids=["limited", "for ever"])
def test_result_gives_what_is_recorded_while_it_waits(
    reranker: RerankClient, store: JobStore, timeout: float | None
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)

    with ThreadPoolExecutor(1) as threads:
        worker = threads.submit(play_worker(store, result_of(job_id)))
        result = reranker.result(job_id, timeout)

    assert worker.result()
    assert result == result_of(job_id)


def test_result_with_no_time_gives_what_is_there(reranker: RerankClient, store: JobStore) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    with pytest.raises(ResultTimeout):
        reranker.result(job_id, timeout=0)

    finish(store, result_of(job_id))

    assert reranker.result(job_id, timeout=0) == result_of(job_id)


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_failure_is_raised_with_its_record(
    reranker: RerankClient, store: JobStore, when: str
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    failure = failure_of(job_id, "out_of_memory")

    with ThreadPoolExecutor(1) as threads:
        if when == "before":
            finish(store, failure)
        else:
            threads.submit(play_worker(store, failure))
        with pytest.raises(JobFailed) as raised:
            reranker.result(job_id, PATIENCE_S)

    assert raised.value.failure == failure
    assert str(raised.value) == f"job {job_id} failed (out_of_memory): the model failed"


def test_without_a_worker_result_times_out_and_the_job_stays(
    reranker: RerankClient, client: redis.Redis, settings: Settings
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)

    with pytest.raises(ResultTimeout, match=f"{job_id} is still queued after 0.2 s") as late:
        reranker.result(job_id, timeout=0.2)

    assert isinstance(late.value, TimeoutError)
    assert late.value.retryable
    assert reranker.status(job_id).state == JobState.QUEUED
    assert [message.id for message in messages(client, settings)] == [job_id]


def test_a_job_that_was_late_can_be_waited_for_again(
    reranker: RerankClient, store: JobStore
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    store.execute(begin(store.schema, job_id))
    with pytest.raises(ResultTimeout, match="still running"):
        reranker.result(job_id, timeout=0.1)

    finish(store, result_of(job_id))

    assert reranker.result(job_id, PATIENCE_S) == result_of(job_id)


def test_an_unknown_job_is_not_found_rather_than_waited_for(reranker: RerankClient) -> None:
    with pytest.raises(JobNotFound, match="unknown"):
        reranker.result("unknown", timeout=None)
    with pytest.raises(JobNotFound):
        reranker.status("unknown")
    with pytest.raises(JobNotFound):
        reranker.cancel("unknown")


def test_an_outcome_that_cannot_be_read_is_raised(
    reranker: RerankClient, store: JobStore, client: redis.Redis
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    finish(store, result_of(job_id))
    client.set(store.schema.keys.outcome(job_id), b"garbage", ex=60)

    with pytest.raises(PayloadInvalid, match=job_id):
        reranker.result(job_id, PATIENCE_S)


def test_a_lost_done_message_is_made_up_for_by_reading(
    reranker: RerankClient, store: JobStore, settings: Settings
) -> None:
    # Given a wait that found no outcome in its first reading
    job_id = reranker.submit(QUERY, DOCUMENTS)
    with reranker.watch() as watch:
        assert watch.any_of([job_id], 0.1) == {}
        # When the job ends and its message is lost
        store.execute(outcomes.finish(unheard(settings), result_of(job_id)))
        # Then the caller still gets the result
        assert watch.any_of([job_id], PATIENCE_S) == {job_id: result_of(job_id)}


def test_a_lost_done_message_is_made_up_for_while_other_jobs_end_all_the_time(
    reranker: RerankClient, store: JobStore, client: redis.Redis, settings: Settings
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    with ThreadPoolExecutor(1) as threads, reranker.watch() as watch:
        assert watch.any_of([job_id], 0.1) == {}
        store.execute(outcomes.finish(unheard(settings), result_of(job_id)))
        with busy_channel(client, settings):
            waiting = threads.submit(watch.any_of, [job_id], None)
            try:
                assert waiting.result(timeout=12) == {job_id: result_of(job_id)}
            finally:
                client.publish(names.Keys(settings.namespace).done, job_id)


@pytest.mark.parametrize("data", [b"another-job", b"", b"\xff\xfe"], ids=["id", "empty", "no text"])
def test_a_foreign_message_on_the_channel_disturbs_nobody(
    reranker: RerankClient, store: JobStore, client: redis.Redis, settings: Settings, data: bytes
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    with reranker.watch() as watch:
        assert watch.any_of([job_id], 0.1) == {}
        client.publish(names.Keys(settings.namespace).done, data)
        assert watch.any_of([job_id], 0.1) == {}
        finish(store, result_of(job_id))

        assert watch.any_of([job_id], PATIENCE_S) == {job_id: result_of(job_id)}


def test_two_clients_that_wait_for_one_job_both_get_it(
    reranker: RerankClient, store: JobStore, client: redis.Redis, settings: Settings
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    with RerankClient(settings) as other, ThreadPoolExecutor(2) as threads:
        waits = [threads.submit(each.result, job_id, PATIENCE_S) for each in (reranker, other)]
        await_subscribers(client, settings, 2)
        finish(store, result_of(job_id))

        assert [wait.result() for wait in waits] == [result_of(job_id)] * 2


def test_a_wait_that_was_given_up_leaves_no_subscription(
    reranker: RerankClient, client: redis.Redis, settings: Settings
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    for _ in range(5):
        with pytest.raises(ResultTimeout):
            reranker.result(job_id, timeout=0.05)

    await_subscribers(client, settings, 0)


def test_a_closed_client_leaves_no_connection(client: redis.Redis, settings: Settings) -> None:
    """Check only our connections: those for publishing are kombu's, and shared by the process."""
    before = {each["id"] for each in client.client_list()}

    def left() -> list[str]:
        return [each["name"] for each in client.client_list() if each["id"] not in before]

    with RerankClient(settings) as reranker:
        job_id = reranker.submit(QUERY, DOCUMENTS)
        with pytest.raises(ResultTimeout):
            reranker.result(job_id, timeout=0.05)
        reranker.workers(timeout_s=0.05)
        assert "rerankq-client" in left()

    wait_until(lambda: "rerankq-client" not in left(), "its connections are closed", within_s=5)


# Waiting for many


def test_a_watch_waits_for_many_jobs_on_one_subscription(
    reranker: RerankClient, store: JobStore, client: redis.Redis, settings: Settings
) -> None:
    # Given 200 jobs, and some have ended
    ids = reranker.submit_many([request()] * 200, pairs_per_job=2)
    for job_id in ids[:50]:
        finish(store, result_of(job_id))
    # When all are awaited, and the others end meanwhile, some as failures
    found: dict[str, jobs.OutcomeOrError] = {}
    with ThreadPoolExecutor(1) as threads, reranker.watch() as watch:
        worker = threads.submit(
            lambda: [
                finish(store, failure_of(job_id) if place % 10 == 0 else result_of(job_id))
                for place, job_id in enumerate(ids[50:])
            ]
        )
        while len(found) < len(ids):
            new = watch.any_of([each for each in ids if each not in found], PATIENCE_S)
            assert new
            assert not new.keys() & found.keys()
            found |= new
            assert subscribers(client, settings) == 1
    # Then each has its outcome
    assert all(worker.result())
    assert set(found) == set(ids)
    assert sum(isinstance(ended, jobs.Failure) for ended in found.values()) == 15


def test_a_watch_gives_nothing_when_nothing_ends_in_time(reranker: RerankClient) -> None:
    ids = reranker.submit_many([request()] * 2, pairs_per_job=2)

    with reranker.watch() as watch:
        assert watch.any_of(ids, 0.1) == {}
        assert watch.any_of(ids, 0) == {}


def test_a_watch_gives_an_unknown_job_as_not_found(reranker: RerankClient) -> None:
    with reranker.watch() as watch:
        found = watch.any_of(["unknown"], PATIENCE_S)

    assert isinstance(found["unknown"], JobNotFound)


# Submit and wait


def test_rerank_gives_the_result_of_the_job_it_submitted(
    reranker: RerankClient, store: JobStore
) -> None:
    with ThreadPoolExecutor(1) as threads:
        threads.submit(play_worker(store, result_of("mine")))
        result = reranker.rerank(QUERY, DOCUMENTS, job_id="mine", timeout=PATIENCE_S)

    assert result == result_of("mine")
    assert result.documents == result.rankings[0].documents


def test_rerank_cancels_a_job_that_is_late(reranker: RerankClient) -> None:
    with pytest.raises(ResultTimeout):
        reranker.rerank(QUERY, DOCUMENTS, job_id="mine", timeout=0.1)

    assert reranker.status("mine").state == JobState.CANCELLED


# Cancelling, looking, forgetting


@pytest.mark.parametrize("started", [False, True], ids=["waiting", "running"])
def test_cancelling_ends_a_job(reranker: RerankClient, store: JobStore, started: bool) -> None:
    # Given a job that has not ended
    job_id = reranker.submit(QUERY, DOCUMENTS)
    if started:
        store.execute(begin(store.schema, job_id))
    # When it is cancelled
    assert reranker.cancel(job_id)
    # Then that is its outcome, even if a worker has a result later
    assert not finish(store, result_of(job_id))
    assert store.execute(begin(store.schema, job_id)).attempts == 0
    with pytest.raises(JobFailed) as cancelled:
        reranker.result(job_id, PATIENCE_S)
    assert cancelled.value.failure.code == "cancelled"
    assert cancelled.value.failure.attempts == int(started)
    assert reranker.status(job_id).state == JobState.CANCELLED


def test_cancelling_an_ended_job_changes_nothing(reranker: RerankClient, store: JobStore) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    finish(store, result_of(job_id))

    assert not reranker.cancel(job_id)

    assert reranker.result(job_id, PATIENCE_S) == result_of(job_id)
    assert reranker.status(job_id).state == JobState.DONE


def test_cancelling_twice_says_that_it_was_ended(reranker: RerankClient) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)

    assert [reranker.cancel(job_id), reranker.cancel(job_id)] == [True, False]


def test_cancelling_wakes_those_who_wait(
    reranker: RerankClient, client: redis.Redis, settings: Settings
) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(reranker.result, job_id, PATIENCE_S)
        await_subscribers(client, settings, 1)
        reranker.cancel(job_id)

        with pytest.raises(JobFailed, match="cancelled by the caller"):
            waiting.result()


def test_status_follows_a_job(reranker: RerankClient, store: JobStore) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    queued = reranker.status(job_id)
    store.execute(begin(store.schema, job_id))
    running = reranker.status(job_id)
    finish(store, failure_of(job_id))
    failed = reranker.status(job_id)

    assert [each.state for each in (queued, running, failed)] == ["queued", "running", "failed"]
    assert (queued.pairs, queued.requests) == (2, 1)
    assert [each.attempts for each in (queued, running, failed)] == [0, 1, 1]
    assert (running.code, failed.code) == (None, "scoring_failed")


def test_status_of_the_service_counts_jobs_and_messages(
    reranker: RerankClient, store: JobStore
) -> None:
    first, second, _ = (reranker.submit(QUERY, DOCUMENTS) for _ in range(3))
    store.execute(begin(store.schema, first))
    finish(store, result_of(second))

    status = reranker.status()

    assert (status.workers, status.queue_depth, status.unacked) == ((), 3, 0)
    assert status.jobs == {
        JobState.QUEUED: 1,
        JobState.RUNNING: 1,
        JobState.DONE: 1,
        JobState.FAILED: 0,
        JobState.CANCELLED: 0,
    }


def test_a_forgotten_result_cannot_be_read_again(reranker: RerankClient, store: JobStore) -> None:
    job_id = reranker.submit(QUERY, DOCUMENTS)
    finish(store, result_of(job_id))

    reranker.forget(job_id)

    with pytest.raises(JobNotFound):
        reranker.result(job_id, PATIENCE_S)
    assert reranker.status(job_id).state == JobState.DONE


# Settings


def test_settings_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, client: redis.Redis, settings: Settings
) -> None:
    monkeypatch.setenv("RERANKQ_REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("RERANKQ_NAMESPACE", settings.namespace)

    with RerankClient() as reranker:
        job_id = reranker.submit(QUERY, DOCUMENTS)

    assert [message.id for message in messages(client, settings)] == [job_id]


def test_a_redis_url_of_ones_own_replaces_that_of_the_settings(
    client: redis.Redis, settings: Settings
) -> None:
    elsewhere: Settings = Settings.load(
        redis_url="redis://127.0.0.1:1/0", namespace=settings.namespace
    )

    with RerankClient(elsewhere, redis_url=settings.redis_url.get_secret_value()) as reranker:
        job_id = reranker.submit(QUERY, DOCUMENTS)

    assert [message.id for message in messages(client, settings)] == [job_id]


def test_what_may_not_be_downgraded_says_so_in_its_job(
    reranker: RerankClient, store: JobStore
) -> None:
    strict = reranker.submit(QUERY, DOCUMENTS, allow_downgrade=False)
    (strict_too,) = reranker.submit_many([request()], allow_downgrade=False)
    lenient = reranker.submit(QUERY, DOCUMENTS)

    allowed = [
        store.execute(payload(store.schema, each)).allow_downgrade
        for each in (strict, strict_too, lenient)
    ]
    assert allowed == [False, False, True]
