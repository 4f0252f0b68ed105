"""The blocking client queues each job once, and nothing that is wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from contract import jobs, names
from contract.errors import (
    InvalidInput,
    JobConflict,
    LimitExceeded,
    ModelNotAllowed,
)
from contract.settings import Settings
from contract.store import submissions
from contract.store.blocking import JobStore
from producer.client import preparing
from producer.client.blocking import RerankClient
from tests.integration.client_calls import finish
from tests.integration.redis_state import (
    PATIENCE_S,
    keys_of,
    messages,
    payload,
)
from tests.integration.sample_records import DOCUMENTS, QUERY, job, request, result_of


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
