"""Groups of bulk jobs take turns in the queue, and every job is started exactly once."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import redis

from contract import names
from contract.errors import InvalidInput
from contract.store import attempts, outcomes, submissions
from contract.store.blocking import JobStore
from producer.client.blocking import RerankClient
from tests.integration.sample_records import failure_of, job, result_of
from tests.integration.stand_ins import begin
from worker.jobs.job_snapshots import JobSnapshot
from worker.jobs.sweeper import sweep
from worker.runtime import envelope
from worker.runtime.settings import WorkerSettings
from worker.runtime.turns import in_turn

STEP = 6
#: A job that was sent so long ago is looked for.
LONG_AGO_S = 3_600


class Queue:
    """Clients that submit jobs, and workers that start them one after the other."""

    def __init__(self, store: JobStore) -> None:
        self.store, self.keys, self.redis = store, store.schema.keys, store.client
        self._list = self.keys.queue_list(STEP)
        self._client = RerankClient(store.schema.settings)

    def submit(self, group: str, number: int, pairs: int = 2, **options: Any) -> list[str]:
        """Submit jobs of a group, named after it; return their ids."""
        first = self.redis.incrby(f"{self.keys.namespace}:unacked:test:{group}", number) - number
        ids = [f"{group}{place}" for place in range(first, first + number)]
        for job_id in ids:
            self._client.submit_job(job(job_id, documents=pairs), group=group, **options)
        return ids

    def pop(self) -> Any:
        """Take the next message from the list."""
        raw: Any = self.redis.rpop(self._list)
        return None if raw is None else json.loads(raw)

    def exchange(self, client: redis.Redis | None = None) -> dict[str, Any]:
        """Take the next message, and return the one that a worker receives for it."""
        message = in_turn(client or self.redis, self.keys, self.pop())
        assert message is not None
        return message

    def take(self) -> str | None:
        """Start the job whose turn it is, and finish it; return its id."""
        while (payload := self.pop()) is not None:
            message = in_turn(self.redis, self.keys, payload)
            if message is not None:
                return self.score(message)
        return None

    def take_as_before(self) -> str | None:
        """Start the job that the next message names, like a worker of an earlier version."""
        payload = self.pop()
        return None if payload is None else self.score(payload)

    def score(self, payload: Any) -> str:
        """Score the job of a message; return its id, in brackets if there is nothing to do."""
        checked = envelope.validate(payload, self.keys.queue, 10.0)
        job_id = str(checked["headers"]["id"])
        started = self.store.execute(begin(self.store.schema, job_id))
        if started.verdict is not attempts.Verdict.STARTED:
            return f"[{job_id}]"
        assert self.store.execute(outcomes.finish(self.store.schema, result_of(job_id)))
        return job_id

    def drain(self, take: Callable[[], str | None] | None = None) -> list[str]:
        """Return the ids of the jobs that are scored until the queue is empty, in their order."""
        return [
            job_id
            for job_id in iter(take or self.take, None)
            if job_id is not None and not job_id.startswith("[")
        ]

    def leave(self, job_id: str) -> None:
        """Let a job look like that of a producer of an earlier version."""
        group: Any = self.redis.hget(self.keys.job(job_id), "group")
        self.redis.lrem(f"{self.keys.turns}{STEP}:{group.decode()}", 0, job_id)
        self.redis.hdel(self.keys.job(job_id), "group", "turn")

    def age(self) -> None:
        """Move the times of all queued jobs into the past."""
        found: Any = self.redis.zrange(self.keys.queued, 0, -1)
        for job_id in found:
            for field in ("submitted_at", "sent_at"):
                self.redis.hincrbyfloat(self.keys.job(job_id.decode()), field, -LONG_AGO_S)
            self.redis.zincrby(self.keys.queued, -LONG_AGO_S, job_id)

    def sweep(self) -> list[str]:
        """Send lost jobs again, like a worker; return their ids."""

        def send(found: JobSnapshot) -> None:
            self._client._publisher.send(job(found.job_id), found.priority)

        self.redis.delete(self.keys.sweeper)
        given = self.store.schema.settings.model_dump()
        return sweep(self.store, WorkerSettings.load(**given, resend_after_s=60), send)

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def queue(store: JobStore) -> Iterator[Queue]:
    made = Queue(store)
    yield made
    for each in store.client.scan_iter(f"{made.keys.namespace}:unacked:test:*"):
        store.client.delete(each)
    made.close()


def test_groups_take_turns_job_by_job(queue: Queue) -> None:
    queue.submit("a", 5)
    queue.submit("b", 2)
    queue.submit("c", 1)

    assert queue.drain() == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"]


def test_a_job_whose_producer_died_before_it_sent_the_message_does_not_use_that_of_another(
    queue: Queue,
) -> None:
    store = queue.store
    # Given a producer that was killed after it stored two jobs
    for job_id in ("unsent0", "unsent1"):
        made = job(job_id)
        store.execute(submissions.accept(store.schema, made, names.PRIORITY_BULK, "dead"))
    # When another producer submits jobs
    queue.submit("a", 3)
    # Then each of its messages starts one of them
    assert [queue.take() for _ in range(2)] == ["a0", "a1"]
    # And workers send only the messages of the unsent jobs, although others wait too
    queue.age()
    assert sorted(queue.sweep()) == ["unsent0", "unsent1"]
    assert sorted(queue.drain()) == ["a2", "unsent0", "unsent1"]


def test_a_job_keeps_its_turn_while_its_producer_sends_the_message(queue: Queue) -> None:
    store = queue.store
    # Given many jobs of one group, and a job of another that is stored
    queue.submit("many", 9)
    made = job("late")
    store.execute(submissions.accept(store.schema, made, names.PRIORITY_BULK, "late"))
    # When a worker starts a job before the other is sent, then it is one of the many
    assert queue.take() == "many0"
    # And when it is sent, it is next
    queue._client._publisher.send(made, names.PRIORITY_BULK)
    store.execute(submissions.mark_sent(store.schema, "late"))
    assert [queue.take() for _ in range(2)] == ["late", "many1"]


def test_a_message_that_arrives_before_its_producer_records_it_is_not_lost(queue: Queue) -> None:
    # Given a producer that has sent two messages, but has not recorded it yet
    unrecorded = queue.submit("b", 2)
    # And a job that the first of them starts
    queue.submit("a", 1)
    for job_id in unrecorded:
        queue.redis.hdel(queue.keys.job(job_id), "sent_at")
    # Then all jobs are started
    assert queue.drain() == ["a0", "b0", "b1"]


def test_a_later_group_does_not_wait_for_an_earlier_one(queue: Queue) -> None:
    queue.submit("many", 40)
    assert [queue.take() for _ in range(10)] == [f"many{place}" for place in range(10)]
    # When another group submits jobs
    queue.submit("late", 4)
    # Then every other job is its
    order = queue.drain()
    assert {each for each in order[:8] if each.startswith("late")} == {f"late{n}" for n in range(4)}
    assert [each for each in order if each.startswith("many")] == [
        f"many{n}" for n in range(10, 40)
    ]


def test_turns_are_by_pairs_and_not_by_jobs(queue: Queue) -> None:
    queue.submit("large", 4, pairs=99)
    queue.submit("small", 40, pairs=9)
    order = queue.drain()
    # Then ten small jobs are scored for each large one
    places = [place for place, each in enumerate(order) if each.startswith("large")]
    assert all(9 <= later - earlier <= 12 for earlier, later in pairwise(places))
    assert len(order) == 44


def test_a_group_does_not_make_up_for_the_time_when_it_had_no_jobs(queue: Queue) -> None:
    # Given a group that had nothing to do while another one had 20 jobs scored
    queue.submit("idle", 1)
    queue.submit("busy", 40)
    assert sum(str(queue.take()).startswith("busy") for _ in range(21)) == 20
    # When it has jobs again, then they still take turns
    queue.submit("idle", 10)
    first = [queue.take() for _ in range(10)]
    assert 4 <= sum(str(each).startswith("busy") for each in first) <= 6


def test_cancelled_jobs_take_no_turns(queue: Queue) -> None:
    with RerankClient(queue.store.schema.settings) as client:
        for job_id in queue.submit("cancelled", 30):
            client.cancel(job_id)
    queue.submit("other", 5)
    queue.submit("cancelled", 5)
    order = queue.drain()
    assert sorted(order[:2]) == ["cancelled30", "other0"]
    assert len(order) == 10


def test_a_worker_takes_the_message_of_a_cancelled_job_to_tell_flower(queue: Queue) -> None:
    cancelled = queue.submit("a", 1)
    queue.submit("b", 2)
    with RerankClient(queue.store.schema.settings) as client:
        client.cancel(cancelled[0])

    started = list(iter(queue.take, None))

    assert sorted(started) == ["[a0]", "b0", "b1"]


def test_jobs_of_one_client_share_a_group_unless_they_name_one(queue: Queue) -> None:
    settings = queue.store.schema.settings
    with RerankClient(settings) as first, RerankClient(settings) as second:
        ours = [first.submit("q", ["a", "b"], priority=6) for _ in range(10)]
        theirs = [second.submit("q", ["a", "b"], priority=6) for _ in range(2)]
        named = first.submit("q", ["a", "b"], priority=6, group="urgent")
        assert {*theirs, named} < set(queue.drain()[:6])
        with pytest.raises(InvalidInput, match="group must have"):
            first.submit("q", ["a"], group="two words")
    assert len(ours) == 10


def test_a_dead_letter_that_is_retried_takes_a_turn(queue: Queue) -> None:
    # Given a dead letter
    (job_id,) = queue.submit("a", 1)
    assert queue.exchange()["headers"]["id"] == job_id
    failure = failure_of(job_id)
    assert queue.store.execute(outcomes.finish(queue.store.schema, failure, dead_letter=True))
    # When it is retried behind the jobs of another group
    queue.submit("b", 4)
    with RerankClient(queue.store.schema.settings) as client:
        client.retry(job_id)
    # Then it does not have to wait for them
    assert sorted(queue.drain()[:2]) == ["a0", "b0"]


def test_single_jobs_are_first_come_first_served(queue: Queue) -> None:
    ids = queue.submit("a", 3, priority=names.PRIORITY_SINGLE)
    ids += queue.submit("b", 3, priority=names.PRIORITY_SINGLE)
    taken: Any = queue.redis.rpop(queue.keys.queue_list(names.PRIORITY_SINGLE), 6)
    for raw, job_id in zip(taken, ids, strict=True):
        payload = json.loads(raw)
        assert payload["headers"]["id"] == job_id
        assert in_turn(queue.redis, queue.keys, payload) is payload


def test_a_message_that_comes_again_is_about_its_own_job(queue: Queue) -> None:
    # Given a worker that took a job in place of another, and died
    queue.submit("a", 3)
    queue.submit("b", 1)
    queue.take()
    held = queue.exchange()
    assert held["headers"]["id"] == "b0"
    # When its message is delivered again, also as a retry
    for again in ({"redelivered": True}, {"retries": 1}):
        payload = {**held, "headers": {**held["headers"], **again}}
        assert in_turn(queue.redis, queue.keys, payload) is payload
    # Then the job is scored once, and so are the others
    assert queue.score(held) == "b0"
    assert queue.drain() == ["a1", "a2"]


def test_a_job_started_by_another_message_keeps_its_trace_and_its_counts(queue: Queue) -> None:
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    queue.submit("a", 3)
    queue.submit("b", 1, pairs=5, trace=trace, priority=7)
    queue.take()
    message = envelope.validate(queue.exchange(), "q", 10.0)
    assert message["headers"]["id"] == "b0"
    assert message["headers"]["traceparent"] == trace["traceparent"]
    assert message["headers"]["kwargsrepr"] == "{'requests': 1, 'pairs': 5}"
    assert message["properties"]["priority"] == 7


@pytest.mark.parametrize("seed", range(5))
def test_each_job_is_scored_once_whatever_workers_there_are(queue: Queue, seed: int) -> None:
    chance, ids, order = random.Random(seed), list[str](), list[str]()
    for group in "abcab":
        ids += queue.submit(group, chance.randrange(1, 12))
    # Given jobs of an old producer too, which are in no group
    for job_id in chance.sample(ids, 5):
        queue.leave(job_id)

    def lose() -> str:
        queue.pop()
        return "[killed]"

    def lose_after_exchange() -> str:
        payload = queue.pop()
        if payload is not None:
            in_turn(queue.redis, queue.keys, payload)
        return "[killed]"

    # When old and new workers take messages, and a few are killed before they start a job
    for action in chance.choices(
        [queue.take, queue.take_as_before, lose, lose_after_exchange], k=20
    ):
        order += [found for found in [action()] if found and not found.startswith("[")]
    order += queue.drain()
    # Then the sweep has the other jobs scored, and each is scored once
    queue.age()
    while queue.sweep():
        order += queue.drain()
        queue.age()
    assert sorted(order) == sorted(ids)


def test_a_lost_message_is_replaced_by_the_sweep(queue: Queue) -> None:
    ids = queue.submit("many", 5) + queue.submit("late", 3)
    # Given two messages that were lost with their workers, one after it was exchanged
    queue.pop()
    queue.exchange()
    scored = queue.drain()
    assert len(scored) == 6
    # Then the two jobs are found, and only they
    queue.age()
    assert len(queue.sweep()) == 2
    assert sorted(scored + queue.drain()) == sorted(ids)
    assert queue.sweep() == []


def test_jobs_that_wait_behind_others_are_not_sent_again(queue: Queue) -> None:
    # Given jobs that wait, although their own messages have started others
    queue.submit("many", 30)
    queue.submit("late", 10)
    assert [queue.take() for _ in range(20)]
    queue.age()
    # Then they are not lost
    assert queue.sweep() == []
    assert len(queue.drain()) == 20


def test_a_job_that_a_failover_removed_from_its_group_is_found(queue: Queue) -> None:
    ids = queue.submit("many", 10) + queue.submit("late", 10)
    # Given a Redis that lost the list of one group
    queue.redis.delete(f"{queue.keys.turns}{STEP}:late")
    scored = queue.drain()
    # Then the sweep sends what was not scored
    queue.age()
    assert sorted(queue.sweep()) == sorted(set(ids) - set(scored))
    assert sorted(scored + queue.drain()) == sorted(ids)


def test_without_permission_the_queue_is_first_in_first_out(queue: Queue, redis_url: str) -> None:
    ids = queue.submit("many", 3) + queue.submit("late", 3)
    user = f"without-turns-{queue.keys.namespace}"
    queue.redis.acl_setuser(
        user, enabled=True, nopass=True, keys=[f"{queue.keys.namespace}:job:*"], commands=["+@all"]
    )
    try:
        with redis.Redis.from_url(redis_url, username=user, password=user) as limited:
            found = [queue.exchange(limited)["headers"]["id"] for _ in ids]
    finally:
        queue.redis.acl_deluser(user)
    assert found == ids
