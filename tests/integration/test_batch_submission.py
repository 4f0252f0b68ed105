"""The jobs of a batch are stored and sent several at once, and each of them counts by itself."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
import redis

from contract import jobs, names
from contract.errors import JobConflict, Overloaded, RedisUnavailable
from contract.settings import Settings
from contract.store import submissions
from contract.store.blocking import JobStore
from producer.client.batch import Batch
from producer.client.batch_submission import SENT_AT_ONCE
from producer.client.blocking import RerankClient
from producer.client.celery_app import publisher_app
from producer.client.publishing import Publisher
from tests.embedded_redis import FaultyRedis
from tests.integration.redis_state import PATIENCE_S, messages
from tests.integration.sample_records import job, request
from tests.processes import wait_until

#: One process that is forked, because it needs no imports.
FORK = multiprocessing.get_context("fork")
#: More jobs than are sent at once.
COUNT = 2 * SENT_AT_ONCE + 10


def submit(reranker: RerankClient, count: int = COUNT) -> Batch:
    """Submit a batch of this many jobs of two pairs each."""
    requests = [request(query_id=str(place)) for place in range(count)]
    return reranker.submit_many(requests, batch_id="night", pairs_per_job=2)


class Halting(Publisher):
    """Calls a function when the second group of jobs is stored, but not sent."""

    def __init__(self, settings: Settings, halt: Callable[[], object]) -> None:
        super().__init__(settings)
        self._halt = halt
        self._groups = 0

    def send_all(self, *arguments: Any) -> None:
        self._groups += 1
        if self._groups == 2:
            self._halt()
        super().send_all(*arguments)


def sent_ids(client: redis.Redis, settings: Settings) -> list[str]:
    return [message.id for message in messages(client, settings)]


def test_each_job_has_one_message_and_all_keep_their_order(
    settings: Settings, client: redis.Redis
) -> None:
    with RerankClient(settings) as reranker:
        batch = submit(reranker)
        places = [reranker.status(each).queued_before for each in batch[:: SENT_AT_ONCE // 4]]

    assert sent_ids(client, settings) == batch
    assert places == list(range(0, COUNT, SENT_AT_ONCE // 4))


def test_the_job_that_finds_the_queue_full_is_refused_with_those_after_it(
    settings: Settings,
) -> None:
    room = SENT_AT_ONCE + 20
    narrow = settings.model_copy(update={"max_queue_length": room})

    with RerankClient(narrow) as reranker:
        with pytest.raises(Overloaded, match=f"the queue has {room} messages") as refused:
            submit(reranker)
        counts = reranker.status().jobs

    assert refused.value.submitted == ()
    assert {state: count for state, count in counts.items() if count} == {"cancelled": room}


def test_a_conflict_stops_the_submission_at_the_job_that_has_it(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    # Given another job with the id of the third one
    other = job("night.3-3", query="another query")
    store.execute(submissions.accept(store.schema, other))

    with RerankClient(settings) as reranker:
        with pytest.raises(JobConflict, match=r"night\.3-3"):
            submit(reranker, 5)

        # Then the first two are queued, as before, and the last two are not
        progress = reranker.batch("night").progress()
    assert sent_ids(client, settings) == ["night.1-1", "night.2-2"]
    assert (progress.waiting, progress.missing) == (3, 2)


def test_a_job_with_a_digest_of_an_earlier_version_does_not_stop_the_others(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    # Given a job that an earlier version has stored
    made = jobs.Job(id="night.3-3", requests=(request(query_id="2"),))
    store.execute(submissions.accept(store.schema, made))
    digest = submissions.digest(made.model_dump_json().encode())
    client.hset(store.schema.keys.job(made.id), "digest", digest)

    with RerankClient(settings) as reranker:
        batch = submit(reranker, 5)

    assert sent_ids(client, settings) == batch


def test_a_batch_that_is_submitted_again_sends_only_what_is_missing(
    settings: Settings, client: redis.Redis
) -> None:
    def submit_and_die() -> None:
        with RerankClient(settings) as reranker:
            reranker._publisher = Halting(settings, lambda: os.kill(os.getpid(), signal.SIGKILL))
            submit(reranker)

    # Given a process that is killed between the records of a group and its messages
    process = FORK.Process(target=submit_and_die)
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == -signal.SIGKILL
    with RerankClient(settings) as reranker:
        # Then workers will find the jobs without a message among the queued ones
        assert reranker.batch("night").progress().waiting == 2 * SENT_AT_ONCE
        assert len(sent_ids(client, settings)) == SENT_AT_ONCE

        # And if the batch is submitted again, each job has one message
        batch = submit(reranker)
        assert sent_ids(client, settings) == batch
        assert batch.progress().waiting == COUNT


def test_a_redis_that_fills_up_midway_is_reported_and_the_batch_can_be_completed() -> None:
    with FaultyRedis() as server:
        settings = server.settings()

        def fill() -> None:
            server.admin.config_set("maxmemory-policy", "noeviction")
            server.admin.config_set("maxmemory", "1")

        with RerankClient(settings) as reranker:
            reranker._publisher = Halting(settings, fill)
            with pytest.raises(RedisUnavailable, match="no memory left") as raised:
                submit(reranker)
            assert len(raised.value.submitted) == 2 * SENT_AT_ONCE

        server.admin.config_set("maxmemory", "0")
        with RerankClient(settings) as reranker:
            assert reranker.batch("night").progress().waiting == 2 * SENT_AT_ONCE
            batch = submit(reranker)
        assert sent_ids(server.admin, settings) == batch


def test_a_message_is_the_one_that_celery_sends(settings: Settings, client: redis.Redis) -> None:
    made, queue = job("made"), names.Keys(settings.namespace)
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with publisher_app(settings) as app, app.connection_for_write() as connection:
        app.send_task(
            names.SCORE_TASK,
            args=(made.id,),
            kwargs={"requests": 1, "pairs": 2},
            task_id=made.id,
            queue=queue.queue,
            priority=6,
            connection=connection,
            headers=dict(trace),
            root_id=made.id,
            add_to_parent=False,
        )

    publisher = Publisher(settings)
    publisher.send(made, 6, trace)
    publisher.close()

    ours, celerys = (json.loads(each) for each in client.lrange(queue.queue_list(6), 0, -1))
    for each in (ours, celerys):
        for name in ("delivery_tag", "reply_to"):  # random
            assert each["properties"].pop(name)
    assert ours == celerys


def test_flower_is_told_of_each_message_if_that_is_allowed(
    settings: Settings, client: redis.Redis
) -> None:
    channel = f"/0.{settings.namespace}.events/task.sent"
    heard: Any = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    with RerankClient(settings) as reranker, heard:
        heard.subscribe(channel)
        batch = submit(reranker, 3)
        told: list[str] = []
        wait_until(lambda: _hear(heard, told) == len(batch), "all events are heard", PATIENCE_S)
    assert told == batch

    # Given a login that may not publish events, then its jobs are queued all the same
    client.acl_setuser(
        *(settings.namespace, True),
        passwords=["+secret"],
        keys=["*"],
        commands=["+@all"],
        reset_channels=True,
    )
    url = settings.redis_url.get_secret_value().replace("://", f"://{settings.namespace}:secret@")
    with RerankClient(settings.model_copy(update={"group": "g"}), redis_url=url) as reranker:
        job_id = reranker.submit("q", ["a"], priority=6)
    client.acl_deluser(settings.namespace)
    assert sent_ids(client, settings) == [*batch, job_id]


def _hear(heard: Any, told: list[str]) -> int:
    """Add the id of the job in the next event, if there is one; return the number of ids."""
    if event := heard.get_message():
        told.append(json.loads(b64decode(json.loads(event["data"])["body"]))["uuid"])
    return len(told)
