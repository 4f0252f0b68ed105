"""All dead letters can be listed, retried and dropped, whatever their number and contents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from contract import jobs
from contract.errors import Overloaded, PayloadInvalid, RedisUnavailable
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import dead_letters, outcomes
from contract.store.blocking import JobStore
from contract.store.operation import Schema
from producer.cli import common, main
from producer.client.blocking import RerankClient
from producer.client.columns import ColumnsClient
from tests.embedded_redis import embedded_redis
from tests.integration.redis_state import messages
from tests.integration.rescore_runs import session
from tests.integration.sample_records import failure_of
from tests.integration.stand_ins import StandInWorker, die

#: More than are read in two calls.
MANY = 450
#: How many are listed by default.
LISTED = 1_000


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    return {
        "RERANKQ_REDIS_URL": settings.redis_url.get_secret_value(),
        "RERANKQ_NAMESPACE": settings.namespace,
    }


def rerankq(*arguments: str, environment: dict[str, str]) -> Result:
    """Run the command line in this process, because a new process takes longer to start."""
    return CliRunner(env=environment).invoke(main, arguments)


@pytest.fixture
def many(store: JobStore) -> set[str]:
    """Make many dead letters, one after the other or all at once; return their ids."""
    ids = {f"j{number}" for number in range(MANY)}
    die(store, *ids)
    return ids


# Numbers


def test_all_are_retried_at_once(
    environment: dict[str, str],
    reranker: RerankClient,
    client: redis.Redis,
    settings: Settings,
    many: set[str],
) -> None:
    done = rerankq("dead", "retry", "--all", environment=environment)

    assert (done.exit_code, set(done.stdout.split())) == (0, many)
    assert done.stderr.splitlines()[-1] == f"{MANY:,} of {MANY:,} dead letters queued again"
    assert reranker.dead_letters() == []
    assert {message.id for message in messages(client, settings)} == many


def test_all_are_dropped_at_once(
    environment: dict[str, str], reranker: RerankClient, many: set[str]
) -> None:
    done = rerankq("dead", "drop", "--all", environment=environment)

    assert (done.exit_code, set(done.stdout.split())) == (0, many)
    assert done.stderr.splitlines()[-1] == f"{MANY:,} of {MANY:,} dead letters dropped"
    assert reranker.count_dead_letters() == 0


def test_a_list_that_is_cut_says_how_many_more_there_are(
    environment: dict[str, str], store: JobStore
) -> None:
    die(store, *(f"j{number}" for number in range(LISTED + 2)))

    listed = rerankq("dead", "list", "--json", environment=environment)
    whole = rerankq("dead", "list", "--json", "--limit", str(LISTED + 2), environment=environment)

    assert len(listed.stdout.splitlines()) == LISTED
    assert listed.stderr == "2 older dead letters not shown; raise --limit\n"
    assert (len(whole.stdout.splitlines()), whole.stderr) == (LISTED + 2, "")


@pytest.mark.parametrize("at_once", [1, 3, 7])
def test_pages_are_whole_also_of_letters_that_died_at_the_same_time(
    store: JobStore, at_once: int
) -> None:
    # Given many letters of the same moment
    moments = {f"j{number}": 100.0 + number // 5 for number in range(23)}
    store.client.zadd(store.schema.keys.dead, moments)
    store.client.expire(store.schema.keys.dead, 60)
    # When they are listed page by page
    found: list[str] = []
    page = dead_letters.Page()
    while (page := store.execute(dead_letters.page(store.schema, page, at_once))).ids:
        assert len(page.ids) <= at_once
        found += page.ids
        # And each listed one is dropped, and a later one is added
        store.client.zrem(store.schema.keys.dead, *page.ids)
        store.client.zadd(store.schema.keys.dead, {f"late-{len(found)}": 1_000.0})
    # Then each was listed once, the latest first
    assert sorted(found) == sorted(moments)
    assert [moments[each] for each in found] == sorted(moments.values(), reverse=True)


# Contents


def spoil(store: JobStore, job_id: str, how: str) -> None:
    """Make a letter unreadable, or its payload."""
    client, keys = store.client, store.schema.keys
    if how == "record":
        client.hset(keys.job(job_id), "ended_at", "yesterday")
    if how == "bytes":
        client.hset(keys.job(job_id), "code", b"\xff\xfe")
    if how == "type":
        client.delete(keys.job(job_id))
        client.lpush(keys.job(job_id), "no record")
        client.expire(keys.job(job_id), 60)
    if how == "payload":
        client.set(keys.payload(job_id), b"no payload", ex=60)
    if how == "payload type":
        client.delete(keys.payload(job_id))
        client.lpush(keys.payload(job_id), "no payload")
        client.expire(keys.payload(job_id), 60)
    if how == "no payload":
        client.delete(keys.payload(job_id))


SPOILT = ("record", "bytes", "type", "payload", "payload type", "no payload")


@pytest.mark.parametrize("how", SPOILT)
def test_one_that_cannot_be_retried_is_named_and_spares_the_others(
    environment: dict[str, str], store: JobStore, reranker: RerankClient, how: str
) -> None:
    die(store, "first", "spoilt", "last")
    spoil(store, "spoilt", how)

    listed = rerankq("dead", "list", "--json", environment=environment)
    retried = rerankq("dead", "retry", "--all", environment=environment)

    letters = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [letter["job_id"] for letter in letters] == ["last", "spoilt", "first"]
    assert (retried.exit_code, retried.stdout) == (common.EXIT_PARTIAL, "last\nfirst\n")
    named, counted = retried.stderr.splitlines()
    assert named.startswith("spoilt: ")
    assert counted == "2 of 3 dead letters queued again, 1 failed"
    # And it can still be dropped
    assert [letter.job_id for letter in reranker.each_dead_letter()] == ["spoilt"]
    dropped = rerankq("dead", "drop", "--all", environment=environment)
    assert (dropped.exit_code, dropped.stdout) == (0, "spoilt\n")
    assert reranker.count_dead_letters() == 0


def test_ids_that_are_no_letters_spare_those_that_are(
    environment: dict[str, str], store: JobStore
) -> None:
    die(store, "first", "last")

    done = rerankq("dead", "drop", "first", "nobody", "last", environment=environment)
    none = rerankq("dead", "drop", "nobody", "first", environment=environment)

    assert (done.exit_code, done.stdout) == (common.EXIT_PARTIAL, "first\nlast\n")
    assert done.stderr == (
        "nobody: job nobody is not a dead letter; run `rerankq dead list` to see all dead letters\n"
        "2 of 3 dead letters dropped, 1 failed\n"
    )
    assert (none.exit_code, none.stdout) == (common.EXIT_NOT_FOUND, "")


def test_a_letter_that_cannot_be_read_is_an_error_of_ours(
    store: JobStore, reranker: RerankClient
) -> None:
    die(store, "spoilt")
    spoil(store, "spoilt", "record")

    assert reranker.dead_letter("spoilt").code == jobs.UNREADABLE
    with pytest.raises(PayloadInvalid, match=r"^dead letter spoilt: cannot read its record \("):
        reranker.retry("spoilt")


# A Redis that is full


def test_with_a_full_redis_a_letter_is_not_retried_and_stays(
    environment: dict[str, str], store: JobStore, settings: Settings
) -> None:
    with embedded_redis() as server, redis.Redis(port=server.port) as client:
        own = settings.model_copy(
            update={"redis_url": type(settings.redis_url)(f"redis://127.0.0.1:{server.port}/0")}
        )
        client.config_set("maxmemory-policy", "noeviction")
        client.setrange("ballast", 2**24, "x")
        die(JobStore(client, Schema(own)), "j", "k")
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 0.9))

        with RerankClient(own) as reranker:
            with pytest.raises(Overloaded) as refused:
                reranker.retry("j")
            assert refused.value.submitted == ()
            assert reranker.status("j").state == JobState.FAILED
            url = own.redis_url.get_secret_value()
            done = rerankq(
                *("dead", "retry", "--all"),
                environment=environment | {"RERANKQ_REDIS_URL": url},
            )
            assert reranker.count_dead_letters() == 2

    assert (done.exit_code, done.stdout) == (common.EXIT_OVERLOADED, "")
    said, error = done.stderr.splitlines()
    assert said == "0 of 2 dead letters queued again"
    assert error.startswith(
        "Error: the service is not accepting jobs: Redis uses 100% of its memory"
    )


def test_a_letter_whose_message_cannot_be_sent_is_queued_and_said_to_be(
    environment: dict[str, str], store: JobStore, reranker: RerankClient, mute: Settings
) -> None:
    die(store, "j", "k")

    with RerankClient(mute) as muted, pytest.raises(RedisUnavailable) as raised:
        muted.retry("j")
    url = mute.redis_url.get_secret_value()
    done = rerankq(
        *("dead", "retry", "--all"), environment=environment | {"RERANKQ_REDIS_URL": url}
    )

    assert raised.value.submitted == ("j",)
    assert "job j is queued again, but its message may not have been sent" in str(raised.value)
    assert (done.exit_code, done.stdout) == (0, "k\n")
    assert done.stderr.startswith("Warning: job k is queued again, but its message may not")
    assert [reranker.status(each).state for each in ("j", "k")] == [JobState.QUEUED] * 2


# From a re-scoring


def test_a_run_leaves_no_letter_that_cannot_be_retried(
    reranker: RerankClient, settings: Settings, store: JobStore, tmp_path: Path
) -> None:
    class Dying(StandInWorker):
        """Records failures as dead letters, like a worker."""

        def _work(self) -> None:
            schema = self._store.schema
            queued: Any = self._client.zrange(schema.keys.queued, 0, -1)
            for job_id in queued:
                failure = failure_of(job_id.decode())
                self._store.execute(outcomes.finish(schema, failure, dead_letter=True))

    with (
        Dying(settings, lambda made: failure_of(made.id)),
        ColumnsClient(settings) as client,
    ):
        tally, _ = session(client, tmp_path)

    assert tally.failed_queries > 0
    assert [each.job_id for each in reranker.dead_letters() if not each.payload_kept] == []
    assert reranker.count_dead_letters() == 0
