"""The asyncio client works like the blocking one, with any number of waits on one subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
import redis

from contract import jobs, names
from contract.errors import (
    ClientUnusable,
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
from producer.client.asynchronous import AsyncRerankClient
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

T = TypeVar("T")


def run(settings: Settings, scenario: Callable[[AsyncRerankClient], Awaitable[T]]) -> T:
    """Run `scenario` with a new client; return its result."""

    async def with_client() -> T:
        async with AsyncRerankClient(settings) as reranker:
            return await scenario(reranker)

    return asyncio.run(with_client())


def finish(store: JobStore, outcome: jobs.Outcome) -> bool:
    """End a job like a worker."""
    return store.execute(outcomes.finish(store.schema, outcome))


# Submitting


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


# Waiting


def test_result_gives_what_was_recorded_before_it_waited(
    settings: Settings, store: JobStore
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[jobs.JobResult]:
        job_id = await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        finish(store, result_of(job_id))
        return [await reranker.result(job_id, PATIENCE_S) for _ in range(2)]

    assert run(settings, scenario) == [result_of("mine")] * 2


@pytest.mark.parametrize("timeout", [PATIENCE_S, None], ids=["limited", "for ever"])
def test_result_gives_what_is_recorded_while_it_waits(
    settings: Settings, store: JobStore, timeout: float | None
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        job_id = await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        worker = asyncio.create_task(asyncio.to_thread(play_worker(store, result_of(job_id))))
        result = await reranker.result(job_id, timeout)
        assert await worker
        return result

    assert run(settings, scenario) == result_of("mine")


def test_result_with_no_time_gives_what_is_there(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        job_id = await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        with pytest.raises(ResultTimeout):
            await reranker.result(job_id, timeout=0)
        finish(store, result_of(job_id))
        return await reranker.result(job_id, timeout=0)

    assert run(settings, scenario) == result_of("mine")


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_failure_is_raised_with_its_record(
    settings: Settings, store: JobStore, when: str
) -> None:
    failure = failure_of("mine", "out_of_memory")

    async def scenario(reranker: AsyncRerankClient) -> JobFailed:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        if when == "before":
            finish(store, failure)
            worker = asyncio.create_task(asyncio.sleep(0, result=True))
        else:
            worker = asyncio.create_task(asyncio.to_thread(play_worker(store, failure)))
        with pytest.raises(JobFailed) as raised:
            await reranker.result("mine", PATIENCE_S)
        assert await worker
        return raised.value

    raised = run(settings, scenario)

    assert raised.failure == failure
    assert str(raised) == "job mine failed (out_of_memory): the model failed"


def test_without_a_worker_result_times_out_and_the_job_stays(
    client: redis.Redis, settings: Settings
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobStatus:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        with pytest.raises(ResultTimeout, match=r"mine is still queued after 0\.2 s"):
            await reranker.result("mine", timeout=0.2)
        return await reranker.status("mine")

    assert run(settings, scenario).state == JobState.QUEUED
    assert [message.id for message in messages(client, settings)] == ["mine"]


def test_a_job_that_was_late_can_be_waited_for_again(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        store.execute(begin(store.schema, "mine"))
        with pytest.raises(ResultTimeout, match="still running"):
            await reranker.result("mine", timeout=0.1)
        finish(store, result_of("mine"))
        return await reranker.result("mine", PATIENCE_S)

    assert run(settings, scenario) == result_of("mine")


def test_an_unknown_job_is_not_found_rather_than_waited_for(settings: Settings) -> None:
    async def scenario(reranker: AsyncRerankClient) -> None:
        with pytest.raises(JobNotFound, match="unknown"):
            await reranker.result("unknown", timeout=None)
        with pytest.raises(JobNotFound):
            await reranker.status("unknown")
        with pytest.raises(JobNotFound):
            await reranker.cancel("unknown")

    run(settings, scenario)


def test_an_outcome_that_cannot_be_read_is_raised_and_spares_the_others(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[jobs.JobResult | BaseException]:
        for job_id in ("bad", "good"):
            store.execute(submissions.accept(store.schema, job(job_id)))
            finish(store, result_of(job_id))
        client.set(store.schema.keys.outcome("bad"), b"garbage", ex=60)
        waits = (reranker.result(job_id, PATIENCE_S) for job_id in ("bad", "good"))
        return await asyncio.gather(*waits, return_exceptions=True)

    bad, good = run(settings, scenario)

    assert isinstance(bad, PayloadInvalid)
    assert good == result_of("good")


async def waiting_for(
    reranker: AsyncRerankClient, job_id: str, client: redis.Redis, settings: Settings
) -> asyncio.Task[jobs.JobResult]:
    """Return a task that waits for a job and has found no outcome in its first reading."""
    task = asyncio.create_task(reranker.result(job_id, PATIENCE_S))
    await asyncio.to_thread(await_subscribers, client, settings, 1)
    # Each of these waits begins and ends after the task's first reading.
    for _ in range(3):
        with pytest.raises(JobNotFound):
            await reranker.result("unknown", PATIENCE_S)
    return task


def test_a_lost_done_message_is_made_up_for_by_reading(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        # Given a waiting caller
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        wait = await waiting_for(reranker, "mine", client, settings)
        # When the job ends and its message is lost
        store.execute(outcomes.finish(unheard(settings), result_of("mine")))
        # Then the caller still gets the result
        return await wait

    assert run(settings, scenario) == result_of("mine")


def test_a_lost_done_message_is_made_up_for_while_other_jobs_end_all_the_time(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        wait = await waiting_for(reranker, "mine", client, settings)
        with busy_channel(client, settings):
            store.execute(outcomes.finish(unheard(settings), result_of("mine")))
            return await asyncio.wait_for(wait, 12)

    assert run(settings, scenario) == result_of("mine")


@pytest.mark.parametrize("data", [b"another-job", b"", b"\xff\xfe"], ids=["id", "empty", "no text"])
def test_a_foreign_message_on_the_channel_disturbs_nobody(
    settings: Settings, store: JobStore, client: redis.Redis, data: bytes
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        wait = await waiting_for(reranker, "mine", client, settings)
        client.publish(names.Keys(settings.namespace).done, data)
        finish(store, result_of("mine"))
        return await asyncio.wait_for(wait, 12)

    assert run(settings, scenario) == result_of("mine")


# Many waits


def test_two_hundred_waits_share_one_subscription(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[jobs.JobResult | BaseException]:
        # Given waits for 200 jobs at once
        ids = await reranker.submit_many([request()] * 200, pairs_per_job=2)
        waits = [asyncio.create_task(reranker.result(job_id, PATIENCE_S)) for job_id in ids]
        await asyncio.to_thread(await_subscribers, client, settings, 1)
        # When they end one after the other, every tenth as a failure
        outcomes: list[jobs.Outcome] = [
            failure_of(job_id) if place % 10 == 0 else result_of(job_id, score=float(place))
            for place, job_id in enumerate(ids)
        ]
        for place, outcome in enumerate(outcomes):
            await asyncio.to_thread(finish, store, outcome)
            if place == len(ids) // 2:
                assert subscribers(client, settings) == 1
        ended = await asyncio.gather(*waits, return_exceptions=True)
        # Then there was only one subscription, and each wait got its own outcome
        assert subscribers(client, settings) == 1
        found = [each.failure if isinstance(each, JobFailed) else each for each in ended]
        assert found == outcomes
        return ended

    ended = run(settings, scenario)

    assert sum(isinstance(each, JobFailed) for each in ended) == 20


def test_a_thousand_waits_open_few_connections(
    settings: Settings, client: redis.Redis, store: JobStore
) -> None:
    before = {each["id"] for each in client.client_list()}

    async def scenario(reranker: AsyncRerankClient) -> int:
        ids = [f"j{place}" for place in range(1_000)]
        for job_id in ids:
            store.execute(submissions.accept(store.schema, job(job_id)))
            store.execute(begin(store.schema, job_id))
        waits = [asyncio.create_task(reranker.result(job_id, PATIENCE_S)) for job_id in ids]
        await asyncio.to_thread(await_subscribers, client, settings, 1)
        for job_id in ids:
            await asyncio.to_thread(finish, store, result_of(job_id))
        opened = {each["id"] for each in client.client_list()} - before
        await asyncio.gather(*waits)
        return len(opened)

    assert run(settings, scenario) < 50


def test_several_waits_for_one_job_all_get_it(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[jobs.JobResult]:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        waits = [asyncio.create_task(reranker.result("mine", PATIENCE_S)) for _ in range(5)]
        await asyncio.to_thread(await_subscribers, client, settings, 1)
        finish(store, result_of("mine"))
        return await asyncio.gather(*waits)

    assert run(settings, scenario) == [result_of("mine")] * 5


def test_two_clients_that_wait_for_one_job_both_get_it(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[jobs.JobResult]:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        async with AsyncRerankClient(settings) as other:
            waits = [
                asyncio.create_task(each.result("mine", PATIENCE_S)) for each in (reranker, other)
            ]
            await asyncio.to_thread(await_subscribers, client, settings, 2)
            finish(store, result_of("mine"))
            return await asyncio.gather(*waits)

    assert run(settings, scenario) == [result_of("mine")] * 2


def test_a_wait_that_is_cancelled_spares_the_others_for_the_same_job(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        # Given three waits for one job
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        first, second, third = [
            await waiting_for(reranker, "mine", client, settings) for _ in range(3)
        ]
        # When one is cancelled, and another times out
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second, 0.05)
        finish(store, result_of("mine"))
        # Then the third gets the result
        return await third

    assert run(settings, scenario) == result_of("mine")


def test_waits_that_were_given_up_leave_nothing_behind(
    settings: Settings, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> None:
        # Given a client that has waited once, and its tasks
        ids = await reranker.submit_many([request()] * 40, pairs_per_job=2)
        with pytest.raises(JobNotFound):
            await reranker.result("unknown", PATIENCE_S)
        before = asyncio.all_tasks()
        # When many waits end early: half are cancelled, half time out
        waits = [asyncio.create_task(reranker.result(job_id, PATIENCE_S)) for job_id in ids[:20]]
        waits += [asyncio.create_task(reranker.result(job_id, 0.1)) for job_id in ids[20:]]
        await asyncio.wait(waits[20:])
        for wait in waits[:20]:
            wait.cancel()
        ended = await asyncio.gather(*waits, return_exceptions=True)
        # Then no task is left, no job is watched, and there is only one subscription
        assert {type(each) for each in ended} == {asyncio.CancelledError, ResultTimeout}
        assert asyncio.all_tasks() == before
        assert not reranker._runner._subscription._inboxes
        assert subscribers(client, settings) == 1

    run(settings, scenario)

    await_subscribers(client, settings, 0)


#: Turns of the event loop in which a wait connects, subscribes, reads, and listens.
MOMENTS = range(60)


async def turns(number: int) -> None:
    """Let the event loop run its other tasks this many times."""
    for _ in range(number):
        await asyncio.sleep(0)


async def ends(task: asyncio.Task[Any]) -> bool:
    """Return whether the task ends by itself; if it does not, force it to end."""
    _, pending = await asyncio.wait([task], timeout=5)
    if pending:
        for other in asyncio.all_tasks() - {asyncio.current_task()}:
            other.cancel()
        await asyncio.wait([task], timeout=5)
    return not pending


def test_a_wait_can_be_cancelled_at_any_moment(settings: Settings, store: JobStore) -> None:
    """Check that nothing in the wait swallows the cancellation, so that `result` ends in time."""
    store.execute(begin(store.schema, "mine"))

    async def cancelled_after(moment: int) -> bool:
        reranker = AsyncRerankClient(settings)
        wait = asyncio.create_task(reranker.result("mine", None))
        await turns(moment)
        wait.cancel()
        cancelled = await ends(wait)
        await ends(asyncio.create_task(reranker.aclose()))
        return cancelled

    for moment in MOMENTS:
        assert asyncio.run(cancelled_after(moment)), f"not ended when cancelled after {moment}"


def test_a_client_can_be_closed_at_any_moment(settings: Settings, store: JobStore) -> None:
    store.execute(begin(store.schema, "mine"))

    async def closed_after(moment: int) -> bool:
        reranker = AsyncRerankClient(settings)
        wait = asyncio.create_task(reranker.result("mine", None))
        await turns(moment)
        closed = await ends(asyncio.create_task(reranker.aclose()))
        wait.cancel()
        await ends(wait)
        return closed

    for moment in MOMENTS:
        assert asyncio.run(closed_after(moment)), f"not ended when closed after {moment}"


def test_closing_ends_what_still_waits_with_an_error(
    settings: Settings, client: redis.Redis
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> asyncio.Task[jobs.JobResult]:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        return await waiting_for(reranker, "mine", client, settings)

    async def close_while_waiting() -> None:
        async with AsyncRerankClient(settings) as reranker:
            wait = await scenario(reranker)
        with pytest.raises(ClientUnusable, match="is closed"):
            await wait

    asyncio.run(close_while_waiting())

    await_subscribers(client, settings, 0)


def test_a_closed_client_leaves_no_connection(client: redis.Redis, settings: Settings) -> None:
    """Check only our connections: those for publishing are kombu's, and shared by the process."""
    before = {each["id"] for each in client.client_list()}

    def left() -> list[str]:
        return [each["name"] for each in client.client_list() if each["id"] not in before]

    async def scenario(reranker: AsyncRerankClient) -> None:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        with pytest.raises(ResultTimeout):
            await reranker.result("mine", timeout=0.05)
        await reranker.workers(timeout_s=0.05)
        assert "rerankq-client" in left()

    run(settings, scenario)

    wait_until(lambda: "rerankq-client" not in left(), "its connections are closed", within_s=5)


# Submit and wait


def test_rerank_gives_the_result_of_the_job_it_submitted(
    settings: Settings, store: JobStore
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        worker = asyncio.create_task(asyncio.to_thread(play_worker(store, result_of("mine"))))
        result = await reranker.rerank(QUERY, DOCUMENTS, job_id="mine", timeout=PATIENCE_S)
        assert await worker
        return result

    assert run(settings, scenario) == result_of("mine")


def test_rerank_cancels_a_job_that_is_late(settings: Settings) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobStatus:
        with pytest.raises(ResultTimeout):
            await reranker.rerank(QUERY, DOCUMENTS, job_id="mine", timeout=0.1)
        return await reranker.status("mine")

    assert run(settings, scenario).state == JobState.CANCELLED


# Cancelling, looking, forgetting


@pytest.mark.parametrize("started", [False, True], ids=["waiting", "running"])
def test_cancelling_ends_a_job(settings: Settings, store: JobStore, started: bool) -> None:
    async def scenario(reranker: AsyncRerankClient) -> JobFailed:
        # Given a job that has not ended
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        if started:
            store.execute(begin(store.schema, "mine"))
        # When it is cancelled, and a worker has a result later
        assert await reranker.cancel("mine")
        assert not finish(store, result_of("mine"))
        # Then it remains cancelled
        assert (await reranker.status("mine")).state == JobState.CANCELLED
        assert not await reranker.cancel("mine")
        with pytest.raises(JobFailed) as cancelled:
            await reranker.result("mine", PATIENCE_S)
        return cancelled.value

    failure = run(settings, scenario).failure

    assert (failure.code, failure.attempts) == ("cancelled", int(started))


def test_cancelling_an_ended_job_changes_nothing(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobResult:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        finish(store, result_of("mine"))
        assert not await reranker.cancel("mine")
        return await reranker.result("mine", PATIENCE_S)

    assert run(settings, scenario) == result_of("mine")


def test_cancelling_wakes_those_who_wait(settings: Settings, client: redis.Redis) -> None:
    async def scenario(reranker: AsyncRerankClient) -> None:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        wait = await waiting_for(reranker, "mine", client, settings)
        await reranker.cancel("mine")
        with pytest.raises(JobFailed, match="cancelled by the caller"):
            await wait

    run(settings, scenario)


def test_status_follows_a_job(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[jobs.JobStatus]:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        queued = await reranker.status("mine")
        store.execute(begin(store.schema, "mine"))
        running = await reranker.status("mine")
        finish(store, result_of("mine"))
        return [queued, running, await reranker.status("mine")]

    followed = run(settings, scenario)

    assert [each.state for each in followed] == ["queued", "running", "done"]
    assert [each.attempts for each in followed] == [0, 1, 1]


def test_status_of_the_service_counts_jobs_and_messages(
    settings: Settings, store: JobStore
) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.QueueStatus:
        for name in ("one", "two", "three"):
            await reranker.submit(QUERY, DOCUMENTS, job_id=name)
        store.execute(begin(store.schema, "one"))
        finish(store, result_of("two"))
        return await reranker.status()

    status = run(settings, scenario)

    assert (status.workers, status.queue_depth, status.unacked) == ((), 3, 0)
    assert sum(status.jobs.values()) == 3
    assert status.jobs[JobState.RUNNING] == 1


def test_a_forgotten_result_cannot_be_read_again(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> jobs.JobStatus:
        await reranker.submit(QUERY, DOCUMENTS, job_id="mine")
        finish(store, result_of("mine"))
        await reranker.forget("mine")
        with pytest.raises(JobNotFound):
            await reranker.result("mine", PATIENCE_S)
        return await reranker.status("mine")

    assert run(settings, scenario).state == JobState.DONE


# Settings


def test_a_redis_url_of_ones_own_replaces_that_of_the_settings(
    client: redis.Redis, settings: Settings
) -> None:
    elsewhere: Settings = Settings.load(
        redis_url="redis://127.0.0.1:1/0", namespace=settings.namespace
    )

    async def scenario() -> str:
        url = settings.redis_url.get_secret_value()
        async with AsyncRerankClient(elsewhere, redis_url=url) as reranker:
            return await reranker.submit(QUERY, DOCUMENTS)

    job_id = asyncio.run(scenario())

    assert [message.id for message in messages(client, settings)] == [job_id]


def test_clients_of_two_threads_have_each_their_own_loop(
    settings: Settings, client: redis.Redis
) -> None:
    def submit(name: str) -> str:
        return run(settings, lambda reranker: reranker.submit(QUERY, DOCUMENTS, job_id=name))

    with ThreadPoolExecutor(2) as threads:
        ids = list(threads.map(submit, ("one", "two")))

    assert ids == ["one", "two"]
    assert sorted(message.id for message in messages(client, settings)) == ["one", "two"]


def test_what_may_not_be_downgraded_says_so_in_its_job(settings: Settings, store: JobStore) -> None:
    async def scenario(reranker: AsyncRerankClient) -> list[str]:
        strict = await reranker.submit(QUERY, DOCUMENTS, allow_downgrade=False)
        many = await reranker.submit_many([request()], allow_downgrade=False)
        return [strict, *many, await reranker.submit(QUERY, DOCUMENTS)]

    ids = run(settings, scenario)

    allowed = [store.execute(payload(store.schema, each)).allow_downgrade for each in ids]
    assert allowed == [False, False, True]
