"""A batch follows, reads and cancels many jobs together, also in another process."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from contract import jobs
from contract.errors import InvalidInput, JobFailed, JobNotFound, Overloaded, ResultTimeout
from contract.settings import Settings
from contract.store import batches, outcomes
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer.client.async_batch import AsyncBatch
from producer.client.asynchronous import AsyncRerankClient
from producer.client.batch import Batch
from producer.client.batch_submission import SENT_AT_ONCE
from producer.client.blocking import RerankClient
from tests.integration.halting_client import HaltingClient
from tests.integration.redis_state import PATIENCE_S, await_subscribers
from tests.integration.sample_records import failure_of, request, result_of, result_of_job
from tests.integration.stand_ins import StandInWorker, begin, unheard
from tests.processes import wait_until

#: One process that is forked, because it needs no imports.
FORK = multiprocessing.get_context("fork")


def submit(reranker: RerankClient, count: int, batch_id: str = "night") -> Batch:
    """Submit a batch of this many jobs of two pairs each."""
    requests = [request(documents=2, query_id=str(place)) for place in range(count)]
    return reranker.submit_many(requests, batch_id=batch_id, pairs_per_job=2)


def finish(store: JobStore, *job_ids: str) -> None:
    """End jobs one after the other, like a worker."""
    for job_id in job_ids:
        store.execute(begin(store.schema, job_id))
        assert store.execute(outcomes.finish(store.schema, result_of(job_id)))


def read_in_another_process(settings: Settings, batch_id: str, found: str) -> None:
    """Find a batch, and write the ids of its results and its state to a file."""
    with RerankClient(settings) as reranker, open(found, "w") as file:  # noqa: PTH123
        batch = reranker.batch(batch_id)
        ended = [each.job_id for each in batch.results(PATIENCE_S)]
        json.dump([ended, batch.label, batch.progress().state], file)


def test_another_process_finds_a_batch_by_its_id(
    reranker: RerankClient, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Given a batch without a chosen id
    requests = [request(query_id=str(place)) for place in range(5)]
    batch = reranker.submit_many(requests, pairs_per_job=4, label="nightly: news")
    assert batch == [f"{batch.id}.1-2", f"{batch.id}.3-4", f"{batch.id}.5-5"]

    # When another process awaits its results, while a worker scores them
    path = tmp_path_factory.mktemp("found") / "found.json"
    other = FORK.Process(target=read_in_another_process, args=(settings, batch.id, str(path)))
    other.start()
    with StandInWorker(settings, result_of_job):
        other.join(PATIENCE_S)

    # Then it has all of them, in order
    assert other.exitcode == 0
    assert json.loads(path.read_text()) == [list(batch), "nightly: news", "done"]


def test_a_batch_is_still_the_list_that_callers_expect(
    reranker: RerankClient, settings: Settings
) -> None:
    batch = submit(reranker, 2)

    assert json.loads(json.dumps(batch)) == ["night.1-1", "night.2-2"]
    assert pickle.loads(pickle.dumps(batch)) == batch  # noqa: S301  # our own bytes
    assert [*batch, "x"] == batch + ["x"]  # noqa: RUF005
    with StandInWorker(settings, result_of_job):
        assert [reranker.result(each, timeout=10).job_id for each in batch] == batch
    nothing = reranker.submit_many([])
    assert nothing == []
    assert nothing.progress().ended
    assert list(nothing.as_completed()) == []


def test_progress_counts_jobs_and_tells_the_time_left_once_it_is_known(
    reranker: RerankClient, store: JobStore
) -> None:
    # Given six jobs that no worker has started
    batch = submit(reranker, 6)
    before = batch.progress()
    assert (before.jobs, before.waiting, before.pairs, before.state) == (6, 6, 12, "queued")
    assert (before.pairs_per_s, before.left_s, before.ended) == (None, None, False)

    # When each of five has another end, or none
    finish(store, batch[0], batch[1])
    store.execute(outcomes.finish(store.schema, failure_of(batch[2])))
    reranker.cancel(batch[3])
    store.execute(begin(store.schema, batch[4]))

    # Then they are counted, and the time left follows from the speed so far
    now = batch.progress()
    counted = (now.done, now.failed, now.cancelled, now.running, now.waiting, now.missing)
    assert counted == (2, 1, 1, 1, 1, 0)
    assert (now.done_pairs, now.done_requests, now.failed_requests) == (4, 2, 2)
    assert (now.state, now.submitting) == ("running", False)
    assert now.pairs_per_s is not None
    assert now.left_s == pytest.approx(4 / now.pairs_per_s)

    # And at the end, no time is left
    finish(store, batch[4], batch[5])
    after = batch.progress()
    assert after == reranker.batch("night").progress()
    assert (after.ended, after.left_s, after.state) == (True, 0.0, "failed")


def test_the_counts_of_a_batch_that_has_ended_are_kept(
    reranker: RerankClient, store: JobStore, client: redis.Redis
) -> None:
    batch = submit(reranker, 3)
    finish(store, *batch)
    before = batch.progress()

    # When the states of the jobs have expired
    client.delete(*(store.schema.keys.job(job_id) for job_id in batch))

    assert reranker.batch("night").progress() == before
    assert reranker.batches() == [before]
    # Then submitting it again counts its jobs again
    assert submit(reranker, 3).progress().waiting == 3


def test_jobs_come_once_each_in_the_order_in_which_they_end(
    reranker: RerankClient, store: JobStore
) -> None:
    # Given some jobs that have ended, the last one first
    batch = submit(reranker, 30)
    order = [batch[29], batch[3], *batch[4:29], batch[0], batch[1], batch[2]]
    finish(store, *order[:10])

    # When the others end while the first ones are read
    found: dict[str, jobs.OutcomeOrError] = {}
    for job_id, outcome in batch.as_completed(PATIENCE_S):
        if len(found) == 1:
            finish(store, *order[10:29])
            store.execute(outcomes.finish(store.schema, failure_of(order[29])))
        assert job_id not in found
        found[job_id] = outcome

    # Then each comes once, and a failure is one of the outcomes
    assert list(found) == order
    assert isinstance(found.pop(order[29]), jobs.Failure)
    assert all(isinstance(each, jobs.JobResult) for each in found.values())


def test_the_asyncio_client_reads_batches_in_the_same_way(
    settings: Settings, store: JobStore
) -> None:
    async def scenario() -> tuple[AsyncBatch, list[str], list[str]]:
        async with AsyncRerankClient(settings) as reranker:
            requests = [request(query_id=str(place)) for place in range(30)]
            batch = await reranker.submit_many(requests, pairs_per_job=2)
            finish(store, batch[29])
            order = [job_id async for job_id, _ in with_end(batch)]
            found = await reranker.batch(batch.id)
            results = [each.job_id async for each in found.results(PATIENCE_S)]
            assert await found.progress() == await batch.progress()
            assert [each.batch_id for each in await reranker.batches()] == [batch.id]
            assert await batch.cancel() == 0
            return batch, order, results

    async def with_end(batch: AsyncBatch) -> AsyncIterator[tuple[str, jobs.OutcomeOrError]]:
        """End the other jobs, in the opposite order, after the first was read."""
        ending = None
        async for each in batch.as_completed(PATIENCE_S):
            if ending is None:
                ending = asyncio.create_task(asyncio.to_thread(finish, store, *batch[28::-1]))
            yield each
        assert ending is not None
        await ending

    batch, order, results = asyncio.run(scenario())
    assert order == batch[::-1]
    assert results == batch


def test_results_come_in_the_order_of_the_batch_up_to_a_failure(
    reranker: RerankClient, store: JobStore
) -> None:
    batch = submit(reranker, 5)
    finish(store, batch[2], batch[1])
    results = batch.results(PATIENCE_S)

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(next, results)
        await_subscribers(store.client, store.schema.settings, 1)
        finish(store, batch[0])
        assert first.result(PATIENCE_S).job_id == batch[0]
    store.execute(outcomes.finish(store.schema, failure_of(batch[3])))

    assert [next(results).job_id, next(results).job_id] == batch[1:3]
    with pytest.raises(JobFailed, match="the model failed"):
        next(results)


def test_a_job_whose_notification_is_lost_comes_nevertheless(
    reranker: RerankClient, settings: Settings, store: JobStore
) -> None:
    batch = submit(reranker, 3)

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(lambda: [each for each, _ in batch.as_completed(PATIENCE_S)])
        await_subscribers(store.client, settings, 1)
        for job_id in batch:
            store.execute(outcomes.finish(unheard(settings), result_of(job_id)))
        assert sorted(reading.result(PATIENCE_S)) == batch


def test_a_wait_ends_and_says_how_many_jobs_have_not_ended(
    reranker: RerankClient, settings: Settings, store: JobStore
) -> None:
    batch = submit(reranker, 3)
    finish(store, batch[1])
    error = "2 of 3 jobs of batch night have not ended after 0.2 s"

    with pytest.raises(ResultTimeout, match=error):
        list(batch.as_completed(0.2))
    with pytest.raises(ResultTimeout, match="3 of 3"):
        list(batch.results(0.2))

    async def scenario() -> None:
        async with AsyncRerankClient(settings) as other:
            async for _ in (await other.batch("night")).as_completed(0.2):
                pass

    with pytest.raises(ResultTimeout, match=error):
        asyncio.run(scenario())


def submit_in_another_process(settings: Settings, count: int) -> None:
    with RerankClient(settings) as reranker:
        submit(reranker, count)


def test_a_batch_whose_process_was_killed_is_followed_and_completed(
    reranker: RerankClient, settings: Settings, client: redis.Redis
) -> None:
    # Given a process that is killed while it submits a batch
    schema = Schema(settings)
    other = FORK.Process(target=submit_in_another_process, args=(settings, 300))
    other.start()
    wait_until(lambda: client.zcard(schema.keys.queued) >= 20, "jobs are queued", PATIENCE_S)
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join(PATIENCE_S)

    # When its silence is not long enough to tell, then its batch is still being submitted
    batch = reranker.batch("night")
    early = batch.progress()
    assert early.submitting
    assert early.missing == 300 - early.waiting
    assert early.missing > 0
    with pytest.raises(ResultTimeout):
        list(batch.as_completed(0.1))

    # When it has been silent for long, then the missing jobs are errors
    silent_since = time.time() - batches.SILENT_S - 1
    client.hset(schema.keys.job("night"), "alive_at", str(silent_since))
    assert not batch.progress().submitting
    missing = [job_id for job_id, _ in _taken(batch, early.missing)]
    assert missing == batch[early.waiting :]

    # And the same submission completes the batch
    again = submit(reranker, 300)
    assert (again.progress().waiting, again.progress().missing) == (300, 0)


def test_a_batch_that_is_submitted_again_keeps_its_results_after_an_error(
    reranker: RerankClient, settings: Settings, store: JobStore
) -> None:
    # Given a batch with a result, and jobs that are waiting
    batch = submit(reranker, SENT_AT_ONCE + 1)
    finish(store, batch[0])

    def interrupt() -> None:
        raise KeyboardInterrupt

    # When it is submitted again, and interrupted
    with HaltingClient(settings, interrupt) as other, pytest.raises(KeyboardInterrupt) as raised:
        submit(other, SENT_AT_ONCE + 1)

    # Then nothing is withdrawn, and the error has the ids
    assert raised.value.submitted == tuple(batch[:-1])  # type: ignore[attr-defined]
    assert (batch.progress().done, batch.progress().waiting) == (1, SENT_AT_ONCE)
    assert next(batch.results(PATIENCE_S)).job_id == batch[0]


def _taken(batch: Batch, count: int) -> list[tuple[str, jobs.OutcomeOrError]]:
    found = []
    for each in batch.as_completed(PATIENCE_S):
        assert isinstance(each[1], JobNotFound)
        found.append(each)
        if len(found) == count:
            break
    return found


def test_each_job_either_ends_or_is_cancelled_when_both_happen_at_once(
    reranker: RerankClient, store: JobStore
) -> None:
    batch = submit(reranker, 300)

    # When jobs end while the batch is cancelled
    ended = []

    def work() -> None:
        for job_id in batch[::3]:
            if store.execute(outcomes.finish(store.schema, result_of(job_id))):
                ended.append(job_id)

    with ThreadPoolExecutor(1) as threads:
        working = threads.submit(work)
        wait_until(lambda: bool(ended), "a job has ended", PATIENCE_S)
        cancelled = batch.cancel()
        working.result(PATIENCE_S)

    # Then each has one outcome, and cancelling again changes nothing
    now = batch.progress()
    assert (now.done, now.cancelled) == (len(ended), cancelled)
    assert now.done + now.cancelled == 300
    assert batch.cancel() == 0
    assert batch.progress() == now
    assert not reranker.cancel("night")
    outcomes_ = dict(batch.as_completed(PATIENCE_S))
    assert {each for each, ended_ in outcomes_.items() if _is_result(ended_)} == set(ended)


def _is_result(ended: jobs.OutcomeOrError) -> bool:
    return isinstance(ended, jobs.JobResult)


def test_cancelling_stops_the_process_that_submits_the_batch(
    reranker: RerankClient, settings: Settings, client: redis.Redis
) -> None:
    schema = Schema(settings)
    with RerankClient(settings) as other, ThreadPoolExecutor(1) as threads:
        submitting = threads.submit(submit, other, 2000)
        wait_until(lambda: client.zcard(schema.keys.queued) >= 20, "jobs are queued", PATIENCE_S)

        assert reranker.batch("night").cancel() >= 20

        found = submitting.result(PATIENCE_S).progress()
    assert (found.state, found.waiting, found.submitting) == ("cancelled", 0, False)
    assert found.cancelled + found.missing == 2000


def test_a_query_of_a_batch_may_be_split_into_several_jobs(
    settings: Settings, store: JobStore
) -> None:
    narrow = settings.model_copy(update={"max_pairs_per_job": 4})
    with RerankClient(narrow) as reranker:
        requests = [request(documents=2, query_id="a"), request(documents=9, query_id="b")]
        batch = reranker.submit_many(requests, batch_id="night")
        assert batch.progress().pairs == 11
        with StandInWorker(settings, result_of_job) as worker:
            found = dict(batch.as_completed(PATIENCE_S))
        assert len(worker.taken) == 4
        ended = found[batch[1]]
        assert isinstance(ended, jobs.JobResult)
        assert ended.provenance.parts == 3
        assert batch.progress().done == 2
        assert [each.job_id for each in batch.results(PATIENCE_S)] == batch


def test_a_batch_has_a_status_and_can_be_forgotten(
    reranker: RerankClient, store: JobStore, client: redis.Redis
) -> None:
    batch = submit(reranker, 3)
    finish(store, *batch)

    status = reranker.status("night")
    assert (status.state, status.requests, status.pairs) == ("done", 3, 6)
    assert (status.attempts, status.outcome_kept) == (1, True)
    reranker.forget("night")

    assert reranker.batches() == []
    for call in (reranker.status, reranker.batch):
        with pytest.raises(JobNotFound):
            call("night")
    with pytest.raises(JobNotFound):
        reranker.result(batch[0], timeout=1)
    assert not client.keys(store.schema.keys.outcome("*"))


def test_the_newest_batches_are_listed_first_and_a_withdrawn_one_is_not_listed(
    reranker: RerankClient, settings: Settings
) -> None:
    for batch_id in ("first", "second", "third"):
        submit(reranker, 2, batch_id)
    narrow = settings.model_copy(update={"max_queue_length": 7})
    with RerankClient(narrow) as other, pytest.raises(Overloaded):
        submit(other, 3, "withdrawn")

    assert [each.batch_id for each in reranker.batches()] == ["third", "second", "first"]
    assert [each.batch_id for each in reranker.batches(at_most=1)] == ["third"]


def test_a_record_of_an_earlier_version_is_a_batch_too(
    reranker: RerankClient, store: JobStore, client: redis.Redis
) -> None:
    batch = submit(reranker, 3)
    key = store.schema.keys.job("night")
    # Given what an earlier version stores; it refuses unknown fields of the split
    split = json.loads(client.hget(key, "split") or b"")
    assert split == {"job_id": "night", "bounds": [0, 1, 2, 3], "of": "requests", "top_k": None}
    client.hdel(key, "label", "pairs", "alive_at", "queued_at")
    finish(store, batch[0])

    found = reranker.batch("night").progress()

    assert (found.pairs, found.done, found.waiting) == (6, 1, 2)
    assert found.left_s is not None


def test_an_id_that_belongs_to_no_batch_is_an_error(reranker: RerankClient) -> None:
    reranker.submit("q", ["a"], job_id="single")

    with pytest.raises(JobNotFound, match="unknown"):
        reranker.batch("unknown")
    with pytest.raises(InvalidInput, match="single is a job"):
        reranker.batch("single")
    for label in ("", "x" * 201):
        with pytest.raises(InvalidInput, match="label"):
            reranker.submit_many([request()], label=label)


def test_a_failed_job_that_is_retried_is_awaited_again(
    reranker: RerankClient, settings: Settings, store: JobStore
) -> None:
    batch = submit(reranker, 2)
    finish(store, batch[1])
    letter = failure_of(batch[0])
    store.execute(outcomes.finish(store.schema, letter, dead_letter=True))
    assert batch.progress().failed == 1

    reranker.retry(batch[0])

    assert (batch.progress().failed, batch.progress().waiting) == (0, 1)
    with StandInWorker(settings, result_of_job):
        assert len([*batch.results(PATIENCE_S)]) == 2


def test_two_hundred_threads_read_one_batch(
    reranker: RerankClient, settings: Settings, store: JobStore
) -> None:
    batch = submit(reranker, 5)
    ready = threading.Barrier(201)

    def read() -> list[str]:
        ready.wait(PATIENCE_S)
        return [job_id for job_id, _ in batch.as_completed(PATIENCE_S)]

    with ThreadPoolExecutor(200) as threads:
        reading = [threads.submit(read) for _ in range(200)]
        ready.wait(PATIENCE_S)
        await_subscribers(store.client, settings, 200)
        finish(store, *batch)
        found = [each.result(PATIENCE_S) for each in reading]
    assert found == [batch] * 200
    await_subscribers(store.client, settings, 0)
