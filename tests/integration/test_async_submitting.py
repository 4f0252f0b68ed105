"""The asyncio client queues each job once, and nothing that is wrong."""

from __future__ import annotations

import asyncio
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
from producer.client.asynchronous import AsyncRerankClient
from tests.integration.client_calls import run
from tests.integration.redis_state import (
    keys_of,
    messages,
    payload,
)
from tests.integration.sample_records import DOCUMENTS, QUERY, job, request


def test_submit_puts_one_message_on_the_queue_with_id_and_counts_only(
    client: redis.Redis, settings: Settings
) -> None:
    job_id = run(settings, lambda reranker: reranker.submit(QUERY, DOCUMENTS))

    (message,) = messages(client, settings)
    assert (message.id, message.task) == (job_id, "rerankq.score")
    assert message.arguments == [job_id]
    assert message.counts == {"requests": 1, "pairs": 2}
    assert message.step == names.PRIORITY_SINGLE


def test_no_message_holds_a_query_or_a_document(client: redis.Redis, settings: Settings) -> None:
    async def scenario(reranker: AsyncRerankClient) -> None:
        await reranker.submit("secret query", [{"id": "secret id", "text": "secret text"}])
        await reranker.submit_many(
            [{"query": "secret", "candidates": [{"id": "secret", "text": "secret"}]}]
        )

    run(settings, scenario)

    first, second = messages(client, settings)
    assert "secret" not in first.text
    assert "secret" not in second.text


def test_what_was_submitted_is_what_a_worker_loads(settings: Settings, store: JobStore) -> None:
    documents: list[preparing.Document] = [
        "a text alone",
        {"id": "x", "text": "with all", "score": 2.5, "metadata": {"page": 7}},
        jobs.Candidate(id="y", text="a record"),
    ]

    job_id = run(
        settings,
        lambda reranker: reranker.submit("who?", documents, top_k=3, model="bundled"),
    )

    loaded = store.execute(payload(store.schema, job_id))
    assert (loaded.id, loaded.model) == (job_id, "bundled")
    assert loaded.requests == (
        jobs.Request(
            query="who?",
            top_k=3,
            candidates=(
                jobs.Candidate(id="0", text="a text alone"),
                jobs.Candidate(id="x", text="with all", score=2.5, metadata={"page": 7}),
                jobs.Candidate(id="y", text="a record"),
            ),
        ),
    )


@pytest.mark.parametrize(("priority", "step"), [(0, 0), (2, 0), (3, 3), (5, 3), (6, 6), (9, 9)])
def test_a_message_lies_on_the_list_of_its_priority(
    client: redis.Redis, settings: Settings, priority: int, step: int
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> None:
        await reranker.submit(QUERY, DOCUMENTS, priority=priority)
        await reranker.submit_many([request()], priority=priority)

    run(settings, scenario)

    assert [message.step for message in messages(client, settings)] == [step, step]


def test_submitting_the_same_id_again_sends_one_message(
    client: redis.Redis, settings: Settings
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[str]:
        return [await reranker.submit(QUERY, DOCUMENTS, job_id="mine") for _ in range(3)]

    assert run(settings, scenario) == ["mine"] * 3
    assert [message.id for message in messages(client, settings)] == ["mine"]


def test_an_id_with_other_contents_is_a_conflict_and_sends_nothing_more(
    client: redis.Redis, settings: Settings
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> None:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        with pytest.raises(JobConflict, match="mine"):
            await reranker.submit(QUERY, DOCUMENTS[:1], job_id="mine")

    run(settings, scenario)

    assert [message.counts["pairs"] for message in messages(client, settings)] == [2]


def test_a_submission_that_broke_off_before_its_message_is_completed_by_another(
    client: redis.Redis, settings: Settings, store: JobStore
) -> None:
    made = job("mine")
    store.execute(submissions.accept(store.schema, made))

    run(settings, lambda reranker: reranker.submit_job(made))

    assert [message.id for message in messages(client, settings)] == ["mine"]


def test_many_submissions_at_once_send_each_job_once(
    client: redis.Redis, settings: Settings
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[str]:
        return await asyncio.gather(*(reranker.submit(QUERY, DOCUMENTS) for _ in range(100)))

    ids = run(settings, scenario)

    assert len(set(ids)) == 100
    assert sorted(message.id for message in messages(client, settings)) == sorted(ids)


def test_submit_many_packs_requests_into_few_jobs_in_their_order(
    client: redis.Redis, settings: Settings, store: JobStore
) -> None:
    requests = [request(documents=3, query_id=f"q{place}") for place in range(7)]

    ids = run(settings, lambda reranker: reranker.submit_many(requests, pairs_per_job=6))

    loaded = [store.execute(payload(store.schema, job_id)) for job_id in ids]
    assert [(each.id, each.step) for each in messages(client, settings)] == [
        (job_id, names.PRIORITY_BULK) for job_id in ids
    ]
    assert [len(made.requests) for made in loaded] == [2, 2, 2, 1]
    assert [each for made in loaded for each in made.requests] == requests


GOOD = {"query": "q", "candidates": [{"id": "a", "text": "t"}]}
#: No text is too long, but no job can hold the document.
MANY_BYTES = GOOD | {"candidates": [{"id": "a", "text": "t", "metadata": {"m": "x" * 5_000}}]}


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (GOOD | {"query": " "}, InvalidInput),
        (GOOD | {"surprise": 1}, InvalidInput),
        (GOOD | {"candidates": [{"id": "a", "text": "x" * 501}]}, LimitExceeded),
        (MANY_BYTES, LimitExceeded),
    ],
    ids=["blank query", "unknown field", "long text", "many bytes"],
)
def test_one_bad_request_among_many_sends_none(
    client: redis.Redis, settings: Settings, bad: dict[str, Any], kind: type[InvalidInput]
) -> None:
    limits = {"max_text_chars": 500, "max_bytes_per_job": 5_000}

    async def scenario(reranker: AsyncRerankClient) -> None:
        with pytest.raises(kind):
            await reranker.submit_many([GOOD, GOOD, bad, GOOD], pairs_per_job=1)

    run(settings.model_copy(update=limits), scenario)

    assert keys_of(client, settings) == []


@pytest.mark.parametrize(
    ("query", "documents", "options", "kind"),
    [
        (" ", ["d"], {}, InvalidInput),
        ("q", [], {}, InvalidInput),
        ("q", [5], {}, InvalidInput),
        ("q", [{"id": "a", "text": "t"}, {"id": "a", "text": "u"}], {}, InvalidInput),
        ("q", [{"text": "t", "titel": "u"}], {}, InvalidInput),
        ("q", [{"text": "t", "metadata": {"x": "\ud800"}}], {}, InvalidInput),
        ("q", ["d"], {"top_k": 0}, InvalidInput),
        ("q", ["d"], {"priority": 10}, InvalidInput),
        ("q", ["d"], {"job_id": "not an id"}, InvalidInput),
        ("q", ["d"], {"model": "someone/elses-model"}, ModelNotAllowed),
        ("q", ["x" * 501], {}, LimitExceeded),
        ("q", ["語" * 400], {}, LimitExceeded),
    ],
    ids=[
        "blank query",
        "no documents",
        "a number for a document",
        "equal document ids",
        "unknown field",
        "a lone surrogate in metadata",
        "top_k of 0",
        "priority above 9",
        "id with spaces",
        "unknown model",
        "long document",
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

    async def scenario(reranker: AsyncRerankClient) -> None:
        with pytest.raises(kind):
            await reranker.submit(query, documents, **options)

    run(settings.model_copy(update=limits), scenario)

    assert keys_of(client, settings) == []
