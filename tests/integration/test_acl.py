"""The users of `deploy/users.acl` are refused everything that is not part of their work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from contract import names
from contract.errors import Overloaded, RedisUnavailable
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import statuses
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer.client.blocking import RerankClient
from tests import acl
from tests.integration.sample_records import DOCUMENTS, QUERY

KEYS = names.Keys("rerankq")
QUEUE = KEYS.queue_list(names.PRIORITY_SINGLE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[acl.Server]:
    with acl.server(tmp_path_factory.mktemp("acl")) as made:
        yield made


OF_NOBODY = {
    "flushall": ("FLUSHALL",),
    "flushdb": ("FLUSHDB",),
    "config get": ("CONFIG", "GET", "requirepass"),
    "config set": ("CONFIG", "SET", "dir", "/"),
    "keys": ("KEYS", "*"),
    "scan": ("SCAN", "0"),
    "acl list": ("ACL", "LIST"),
    "acl setuser": ("ACL", "SETUSER", "rerankq-worker", "+@all"),
    "shutdown": ("SHUTDOWN",),
    "monitor": ("MONITOR",),
    "client kill": ("CLIENT", "KILL", "SKIPME", "yes"),
    "client list": ("CLIENT", "LIST"),
    "script flush": ("SCRIPT", "FLUSH"),
    "function load": ("FUNCTION", "LOAD", "#!lua name=x"),
    "replicaof": ("REPLICAOF", "NO", "ONE"),
    "save": ("SAVE",),
    "dump of a payload": ("DUMP", KEYS.payload("j")),
    "migrate": ("MIGRATE", "127.0.0.1", "1", KEYS.payload("j"), "0", "1"),
    "another service's key": ("GET", "somebody-elses"),
    "another namespace's job": ("HGETALL", names.Keys("other").job("j")),
    "another namespace's queue": ("LPUSH", names.Keys("other").queue, "x"),
    "another channel": ("SUBSCRIBE", "somebody-elses"),
}
#: Part of the worker's work.
NOT_THE_PRODUCERS = {
    "take a message": ("BRPOP", KEYS.queue, QUEUE, "1"),
    "take it from the other end": ("LPOP", QUEUE),
    "read the queue": ("LRANGE", QUEUE, "0", "-1"),
    "read the next message": ("LINDEX", QUEUE, "-1"),
    "empty the queue": ("DEL", QUEUE),
    "take a lease": ("SET", KEYS.lease("j"), "token", "PX", "1000"),
    "count an attempt": ("HINCRBY", KEYS.job("j"), "attempts", "1"),
    "hold a message": ("HSET", KEYS.unacked, "tag", "message"),
    "read held messages": ("HGETALL", KEYS.unacked),
    "acknowledge a message": ("HDEL", KEYS.unacked, "tag"),
    "give a message back": ("ZREM", KEYS.unacked_index, "tag"),
    "bury a job": ("ZADD", KEYS.dead, "1", "j"),
    "sweep": ("SET", KEYS.sweeper, "1"),
    "set Celery's result": ("SETEX", "rerankq:celery-task-meta-j", "9", "x"),
    "listen to events": ("PSUBSCRIBE", "/0.rerankq.events/*"),
    "listen to control": ("PSUBSCRIBE", "/0.rerankq.pidbox"),
    "speak for a worker": ("PUBLISH", "/0.rerankq.events/worker.online", "x"),
}
#: Part of the producer's work.
NOT_THE_WORKERS = {
    "submit a job": ("SET", KEYS.payload("j"), "x"),
    "rename into a payload": ("RENAME", KEYS.job("j"), KEYS.payload("j")),
    "read a result": ("GET", KEYS.outcome("j")),
    "forget a result": ("DEL", KEYS.outcome("j")),
    "list dead letters": ("ZREVRANGE", KEYS.dead, "0", "-1"),
    "drop a dead letter": ("ZREM", KEYS.dead, "j"),
    "wait for results": ("SUBSCRIBE", KEYS.done),
    "empty the queue": ("DEL", QUEUE),
    "ask for settings": ("CONFIG", "GET", "maxmemory"),
}
#: Part of neither's work: Flower reads, and asks the workers.
NOT_FLOWERS = {
    "read a payload": ("GET", KEYS.payload("j")),
    "change a job": ("HSET", KEYS.job("j"), "state", "done"),
    "submit a job": ("SET", KEYS.payload("j"), "x"),
    "read a result": ("GET", KEYS.outcome("j")),
    "set a result": ("SET", KEYS.outcome("j"), "x"),
    "send a message": ("LPUSH", QUEUE, "x"),
    "take a message": ("BRPOP", QUEUE, "1"),
    "read held messages": ("HGETALL", KEYS.unacked),
    "give a message back": ("ZREM", KEYS.unacked_index, "tag"),
    "take a lease": ("SET", KEYS.lease("j"), "token"),
    "change the totals": ("HINCRBY", KEYS.totals, "done", "1"),
    "run a script on a payload": ("EVAL", "return 1", "1", KEYS.payload("j")),
    "wait for results": ("SUBSCRIBE", KEYS.done),
    "announce a result": ("PUBLISH", KEYS.done, "j"),
    "speak for a worker": ("PUBLISH", "/0.rerankq.events/worker.online", "x"),
}
REFUSED = [
    pytest.param(role, command, id=f"{role}: {what}")
    for role, others in (
        ("producer", NOT_THE_PRODUCERS),
        ("worker", NOT_THE_WORKERS),
        ("flower", NOT_FLOWERS),
    )
    for what, command in (OF_NOBODY | others).items()
]


@pytest.mark.parametrize(("role", "command"), REFUSED)
def test_what_is_not_a_users_work_is_refused(
    server: acl.Server, role: str, command: tuple[str, ...]
) -> None:
    with server.connection(role) as connection, pytest.raises(redis.exceptions.NoPermissionError):
        connection.execute_command(*command)


@pytest.mark.parametrize(
    ("role", "script", "key"),
    [
        ("producer", "return redis.call('RPOP', KEYS[1])", QUEUE),
        ("producer", "return redis.call('HGETALL', KEYS[1])", KEYS.unacked),
        ("worker", "return redis.call('SET', KEYS[1], 'x')", KEYS.payload("j")),
        ("worker", "return redis.call('GET', KEYS[1])", KEYS.outcome("j")),
    ],
)
def test_a_script_may_not_do_what_its_caller_may_not(
    server: acl.Server, role: str, script: str, key: str
) -> None:
    with (
        server.connection(role) as connection,
        pytest.raises(redis.ResponseError, match="ACL failure in script"),
    ):
        connection.eval(script, 1, key)


def test_nobody_comes_in_without_a_user_and_its_password(server: acl.Server) -> None:
    for login in ("", ":guess@", "rerankq-producer:guess@", "default:@"):
        settings = Settings.load(redis_url=f"redis://{login}127.0.0.1:{server.port}/0")
        with RerankClient(settings) as client, pytest.raises(RedisUnavailable) as refused:
            client.status("some-job")
        assert "guess" not in str(refused.value)


def test_what_is_refused_is_called_so(server: acl.Server) -> None:
    with (
        RerankClient(server.settings("flower")) as client,
        pytest.raises(RedisUnavailable, match="refused the command"),
    ):
        client.submit(QUERY, DOCUMENTS)


def test_without_the_right_to_ask_for_memory_the_queue_is_still_bounded(
    server: acl.Server,
) -> None:
    server.admin.execute_command("ACL", "SETUSER", "rerankq-producer", "-info")  # type: ignore[no-untyped-call]
    try:
        with RerankClient(server.settings("producer", max_queue_length=1)) as client:
            assert client.status(client.submit(QUERY, DOCUMENTS)).pairs == len(DOCUMENTS)
            with pytest.raises(Overloaded, match="RERANKQ_MAX_QUEUE_LENGTH"):
                client.submit(QUERY, DOCUMENTS)
    finally:
        server.admin.execute_command("ACL", "SETUSER", "rerankq-producer", "+info")  # type: ignore[no-untyped-call]


def test_a_producer_leaves_alone_what_workers_hold(server: acl.Server) -> None:
    """Prevent kombu, while it waits for a reply, from restoring messages that are held for long."""
    server.admin.hset(KEYS.unacked, "tag", "[{}, 1, 2]")
    server.admin.zadd(KEYS.unacked_index, {"tag": 1.0})
    server.refused()

    with RerankClient(server.settings("producer")) as client:
        assert client.workers(timeout_s=0.2) == ()

    assert server.refused() == []
    assert server.admin.hlen(KEYS.unacked) == 1
    server.admin.delete(KEYS.unacked, KEYS.unacked_index)


def test_the_file_is_refused_until_it_has_passwords(tmp_path: Path) -> None:
    users = tmp_path / "users.acl"
    with acl.anybody_may_do_all(users) as started, redis.Redis(port=started.port) as anybody:
        users.write_text(acl.SHIPPED.read_text())
        with pytest.raises(redis.ResponseError, match=r"users\.acl:2: The password hash must be"):
            anybody.acl_load()


def test_flower_may_look_up_how_a_job_ended(server: acl.Server) -> None:
    with RerankClient(server.settings("producer")) as client:
        job_id = client.submit(QUERY, DOCUMENTS)

    with server.connection("flower") as connection:
        store = JobStore(connection, Schema(server.settings("flower")))
        assert store.execute(statuses.fetch(store.schema, job_id)).state is JobState.QUEUED
    assert server.refused() == []
