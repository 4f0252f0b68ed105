"""A service that is nearly full refuses more jobs before it writes anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from contract.errors import Overloaded
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import outcomes, overview, statuses, submissions
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer.client.blocking import RerankClient
from tests.embedded_redis import embedded_redis
from tests.integration.redis_state import keys_of, messages
from tests.integration.sample_records import DOCUMENTS, QUERY, failure_of, job, result_of
from tests.integration.stand_ins import begin


def changed(store: JobStore, **limits: int) -> Schema:
    return Schema(store.schema.settings.model_copy(update=limits))


def fill_queue(store: JobStore, *lengths: int) -> None:
    """Put this many messages on the queue's lists."""
    for name, length in zip(store.schema.keys.queue_lists, lengths, strict=False):
        for _ in range(length):
            store.client.lpush(name, "message")
        store.client.expire(name, 60)


# The queue


def test_a_job_is_accepted_up_to_the_last_free_place(store: JobStore) -> None:
    fill_queue(store, 0, 1, 3, 0)

    store.execute(submissions.accept(changed(store, max_queue_length=5), job("j")))

    assert store.execute(statuses.fetch(store.schema, "j")).state == JobState.QUEUED


@pytest.mark.parametrize("lengths", [(5,), (0, 5), (0, 0, 5), (0, 0, 0, 5), (1, 1, 1, 2), (9, 9)])
def test_with_as_many_messages_on_the_queue_as_allowed_no_job_is_accepted(
    store: JobStore, client: redis.Redis, settings: Settings, lengths: tuple[int, ...]
) -> None:
    # Given a full queue, on any of its lists
    fill_queue(store, *lengths)
    before = keys_of(client, settings)
    # When a job is offered
    with pytest.raises(Overloaded) as refused:
        store.execute(submissions.accept(changed(store, max_queue_length=5), job("j")))
    # Then it is refused for now, and nothing is written
    assert str(refused.value) == (
        f"the service is not accepting jobs: the queue has {sum(lengths)} messages, and the limit"
        " is 5 (RERANKQ_MAX_QUEUE_LENGTH); try again later"
    )
    assert refused.value.retryable
    assert keys_of(client, settings) == before


def test_once_there_is_room_again_the_job_is_accepted(store: JobStore, client: redis.Redis) -> None:
    fill_queue(store, 5)
    schema = changed(store, max_queue_length=5)
    with pytest.raises(Overloaded):
        store.execute(submissions.accept(schema, job("j")))

    client.rpop(schema.keys.queue)

    assert not store.execute(submissions.accept(schema, job("j"))).sent


@pytest.mark.parametrize("state", ["queued", "running", "done", "dead"])
def test_a_job_that_is_on_record_is_recognized_however_full_the_queue_is(
    store: JobStore, state: str
) -> None:
    """Accept a job that was accepted before, because it may have ended."""
    schema, made = changed(store, max_queue_length=5), job("j")
    store.execute(submissions.accept(schema, made))
    store.execute(submissions.mark_sent(schema, "j"))
    if state == "running":
        store.execute(begin(schema, "j"))
    if state == "done":
        store.execute(outcomes.finish(schema, result_of("j")))
    if state == "dead":
        store.execute(outcomes.finish(schema, failure_of("j"), dead_letter=True))
    fill_queue(store, 5)

    assert store.execute(submissions.accept(schema, made)).sent


def test_a_caller_is_told_by_the_client_and_no_message_is_sent(
    settings: Settings, store: JobStore, client: redis.Redis
) -> None:
    with RerankClient(settings.model_copy(update={"max_queue_length": 2})) as reranker:
        first, second = (reranker.submit(QUERY, DOCUMENTS) for _ in range(2))
        with pytest.raises(Overloaded, match="RERANKQ_MAX_QUEUE_LENGTH"):
            reranker.submit(QUERY, DOCUMENTS)

    assert [message.id for message in messages(client, settings)] == [first, second]
    assert store.execute(overview.status(store.schema, [])).jobs[JobState.QUEUED] == 2


# Memory


@pytest.fixture
def own_server() -> Iterator[JobStore]:
    """Yield a server for one test, which may limit its memory."""
    with embedded_redis() as server, redis.Redis(port=server.port) as client:
        settings: Settings = Settings.load(redis_url=f"redis://127.0.0.1:{server.port}/0")
        client.config_set("maxmemory-policy", "noeviction")
        client.set("ballast", b"x" * 2**24)  # so that the test's own data does not count
        yield JobStore(client, Schema(settings))


def used(client: redis.Redis) -> int:
    info: Any = client.info("memory")
    return int(info["used_memory"])


def test_with_more_memory_in_use_than_allowed_no_job_is_accepted(own_server: JobStore) -> None:
    # Given a server that uses nine tenths of its memory, or a little more
    client = own_server.client
    client.config_set("maxmemory", used(client) * 10 // 9)
    # When a job is offered
    with pytest.raises(
        Overloaded,
        match=r"^the service is not accepting jobs: Redis uses (89|90|91)% of its memory, and the"
        r" limit is 80% \(RERANKQ_MAX_REDIS_MEMORY_PERCENT\); try again later$",
    ):
        own_server.execute(submissions.accept(own_server.schema, job("j")))
    # Then nothing is written
    assert client.keys() == [b"ballast"]
    # And once there is room, or more of it is allowed, the job is accepted
    higher = changed(own_server, max_redis_memory_percent=99)
    own_server.execute(submissions.accept(higher, job("i")))
    client.config_set("maxmemory", used(client) * 2)
    own_server.execute(submissions.accept(own_server.schema, job("j")))
    assert own_server.execute(overview.status(own_server.schema, [])).jobs[JobState.QUEUED] == 2


def test_a_server_whose_memory_has_no_limit_accepts(own_server: JobStore) -> None:
    own_server.client.config_set("maxmemory", 0)

    own_server.execute(
        submissions.accept(changed(own_server, max_redis_memory_percent=1), job("j"))
    )

    assert own_server.execute(statuses.fetch(own_server.schema, "j")).state == JobState.QUEUED


def test_what_is_under_way_ends_however_full_the_memory_is(own_server: JobStore) -> None:
    """Write outcomes, for which memory is left between the limit and the end."""
    schema, client = own_server.schema, own_server.client
    own_server.execute(submissions.accept(schema, job("j")))
    client.config_set("maxmemory", used(client) * 10 // 9)

    own_server.execute(begin(schema, "j"))
    assert own_server.execute(outcomes.finish(schema, result_of("j")))

    assert own_server.execute(outcomes.fetch(schema, ["j"])) == {"j": result_of("j")}
