"""A job whose message is lost is found and sent again; other jobs are left alone."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis

from contract import jobs, names
from contract.errors import RedisUnavailable
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import attempts, dead_letters, outcomes, overview, submissions
from contract.store.blocking import JobStore
from producer.client.publishing import Publisher
from tests.integration.redis_state import messages
from tests.integration.sample_records import failure_of, job, result_of
from tests.integration.stand_ins import begin
from worker.jobs.job_snapshots import JobSnapshot
from worker.jobs.sweeper import send_again, sweep
from worker.runtime.app import create_app
from worker.runtime.settings import WorkerSettings

Send = Callable[[JobSnapshot], object]

RESEND_AFTER_S, SWEEP_EVERY_S = 60, 10

#: Longer than a message may take to reach a worker.
LONG_AGO_S = 3_600

#: A priority and the step of its list.
PRIORITIES = [(names.PRIORITY_SINGLE, 3), (names.PRIORITY_BULK, 6), (0, 0), (9, 9), (5, 3)]


class Service:
    """The producers, workers and sweeper of one namespace."""

    def __init__(self, store: JobStore) -> None:
        self.store, self.schema = store, store.schema
        self.client = store.client
        self.keys = self.schema.keys
        self._publisher = Publisher(self.schema.settings)

    def accept(self, job_id: str, priority: int = names.PRIORITY_BULK) -> jobs.Job:
        made = job(job_id, requests=2, documents=3)
        self.store.execute(submissions.accept(self.schema, made, priority))
        return made

    def submit(self, job_id: str, priority: int = names.PRIORITY_BULK) -> None:
        """Store a job and put its message on the queue, like a producer."""
        self._publisher.send(self.accept(job_id, priority), priority)
        self.store.execute(submissions.mark_sent(self.schema, job_id))

    def submit_many(self, number: int) -> list[str]:
        """Submit this many bulk jobs in a few round trips; return their ids."""
        self.submit("pattern")
        message = self.take()
        self.store.execute(outcomes.finish(self.schema, result_of("pattern")))
        ids = [f"many-{place:06}" for place in range(number)]
        for start in range(0, number, 500):
            with self.client.pipeline(transaction=False) as pipe:
                for job_id in ids[start : start + 500]:
                    submissions.accept(self.schema, job(job_id)).send(pipe)
                    pipe.lpush(
                        self.keys.queue_list(6),
                        message.replace(b'"pattern"', f'"{job_id}"'.encode()),
                    )
                    submissions.mark_sent(self.schema, job_id).send(pipe)
                pipe.execute()
        return ids

    def take(self, step: int = 6) -> bytes:
        """Take the next message from the queue, like a worker that is killed at this moment."""
        raw: Any = self.client.rpop(self.keys.queue_list(step))
        assert raw is not None
        return bytes(raw)

    def hold(self, step: int = 6, since_s: float = 0.0) -> None:
        """Take the next message from the queue and note it, like kombu, this long ago."""
        held = [json.loads(self.take(step)), "", self.keys.queue]
        tag = uuid.uuid4().hex
        self.client.hset(self.keys.unacked, tag, json.dumps(held))
        self.client.zadd(self.keys.unacked_index, {tag: time.time() - since_s})

    def hold_many(self, number: int, step: int = 6) -> None:
        """Hold this many messages in a few round trips."""
        taken: Any = self.client.rpop(self.keys.queue_list(step), number)
        with self.client.pipeline(transaction=False) as pipe:
            for place, raw in enumerate(taken):
                held = [json.loads(raw), "", self.keys.queue]
                pipe.hset(self.keys.unacked, f"tag-{place}", json.dumps(held))
                pipe.zadd(self.keys.unacked_index, {f"tag-{place}": time.time()})
            pipe.execute()

    def age(self, *job_ids: str, seconds: float = LONG_AGO_S) -> None:
        """Move the times of submission and sending into the past."""
        fields = ("submitted_at", "sent_at")
        with self.client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                for field in fields:
                    pipe.hexists(self.keys.job(job_id), field)
                pipe.zscore(self.keys.queued, job_id)
            found = iter(pipe.execute())
            for job_id in job_ids:
                for field in fields:
                    if next(found):
                        pipe.hincrbyfloat(self.keys.job(job_id), field, -seconds)
                if next(found) is not None:
                    pipe.zincrby(self.keys.queued, -seconds, job_id)
            pipe.execute()

    def sweep(self, send: Send | None = None) -> list[str]:
        """Let the sweeper run; return the ids of the jobs that were sent again."""
        self.client.delete(self.keys.sweeper)
        return self.sweep_in_turn(send)

    def sweep_in_turn(self, send: Send | None = None) -> list[str]:
        return sweep(self.store, self.worker_settings, send or (lambda job: None))

    def handed(self) -> list[JobSnapshot]:
        """Return the log of the jobs that were sent again."""
        told: list[JobSnapshot] = []
        self.sweep(told.append)
        return told

    @property
    def worker_settings(self) -> WorkerSettings:
        """The name of the worker that sweeps."""
        settings = self.schema.settings
        return WorkerSettings.load(
            redis_url=settings.redis_url.get_secret_value(),
            namespace=settings.namespace,
            resend_after_s=RESEND_AFTER_S,
            sweep_every_s=SWEEP_EVERY_S,
        )

    def close(self) -> None:
        self._publisher.close()


@pytest.fixture
def service(store: JobStore) -> Iterator[Service]:
    made = Service(store)
    yield made
    made.close()


# Lost


@pytest.mark.parametrize(("priority", "step"), PRIORITIES)
def test_a_job_that_was_accepted_and_never_sent_is_sent(
    service: Service, priority: int, step: int
) -> None:
    """Lose the message of a producer that was killed before it was sent."""
    service.accept("j", priority)
    service.age("j")

    (sent,) = service.handed()

    assert names.priority_step(sent.priority) == step
    assert (sent.job_id, sent.state) == ("j", JobState.QUEUED)
    assert (sent.requests, sent.pairs) == (2, 6)


@pytest.mark.parametrize(("priority", "step"), PRIORITIES)
def test_a_job_whose_message_was_taken_and_lost_is_sent(
    service: Service, priority: int, step: int
) -> None:
    """Lose the message of a worker that was killed before it was noted."""
    service.submit("j", priority)
    service.take(step)
    service.age("j")

    assert service.sweep() == ["j"]


def test_a_lost_job_is_found_by_the_messages_that_were_sent_after_it(service: Service) -> None:
    # Given a long queue, and one of its messages taken and lost
    for name in ("lost", "next", "later", "last"):
        service.submit(name)
    service.take()
    # When all of them have waited for long
    service.age("lost", "next", "later", "last")
    # Then only the lost one is not on the queue
    assert service.sweep() == ["lost"]


def test_a_lost_job_is_found_whatever_waits_on_other_lists(service: Service) -> None:
    service.submit("bulk")
    service.submit("lost", names.PRIORITY_SINGLE)
    service.take(step=3)
    service.age("lost", "bulk")

    assert service.sweep() == ["lost"]


def test_a_running_job_whose_lease_has_gone_is_sent(service: Service) -> None:
    """Lose the messages of a worker that was killed as a whole."""
    service.submit("j")
    service.hold()
    service.store.execute(begin(service.schema, "j"))
    service.client.delete(service.keys.lease("j"))
    service.age("j")

    assert service.sweep() == ["j"]


def test_a_job_that_was_given_up_and_whose_next_message_was_lost_is_sent(service: Service) -> None:
    service.submit("j")
    service.take()
    service.store.execute(begin(service.schema, "j", "token"))
    service.store.execute(attempts.release(service.schema, "j", "token", downgrade="out_of_memory"))
    assert service.sweep() == []
    service.age("j")

    assert service.sweep() == ["j"]


def test_a_revived_job_that_was_not_sent_is_sent(service: Service) -> None:
    service.submit("j")
    service.take()
    service.store.execute(outcomes.finish(service.schema, failure_of("j"), dead_letter=True))
    made = service.store.execute(dead_letters.load_job(service.schema, "j"))
    service.store.execute(dead_letters.requeue(service.schema, made))
    assert service.sweep() == []
    service.age("j")

    assert service.sweep() == ["j"]


def test_all_that_are_lost_are_sent_at_once(service: Service) -> None:
    ids = [f"j{place}" for place in range(20)]
    for name in ids:
        service.accept(name)
    service.age(*ids)

    assert sorted(service.sweep()) == sorted(ids)


#: More than are read in one sweep.
MANY = 2_300


def test_an_urgent_job_is_found_at_once_however_many_others_wait(service: Service) -> None:
    ids = service.submit_many(MANY)
    service.submit("urgent", names.PRIORITY_SINGLE)
    service.take(step=3)
    service.age("urgent", *ids)

    assert service.sweep() == ["urgent"]


def test_lost_jobs_are_found_at_once_however_many_wait_behind_them(service: Service) -> None:
    ids = service.submit_many(MANY)
    for _ in range(2):
        service.take()
    service.age(*ids)

    assert sorted(service.sweep()) == ids[:2]


def test_any_number_of_lost_jobs_is_found_piece_by_piece(service: Service) -> None:
    """Delete the lists of Redis, and keep the records."""
    ids = service.submit_many(MANY)
    service.client.delete(service.keys.queue_list(6))
    service.age(*ids)

    found = [service.sweep() for _ in range(10)]

    assert max(map(len, found)) < MANY
    assert sorted(job_id for each in found for job_id in each) == ids


def test_a_lost_job_is_found_behind_any_number_that_are_accounted_for(service: Service) -> None:
    # Given more running jobs than are read in one sweep, and a lost one
    ids = service.submit_many(MANY)
    service.hold_many(MANY - 1)
    service.take()
    service.age(*ids)
    # Then it is found after as many sweeps as there are parts
    assert [service.sweep() for _ in range(3)] == [[], [], [ids[-1]]]


def test_copies_of_a_job_that_was_sent_again_do_not_make_others_seem_lost(service: Service) -> None:
    # Given a queue whose next message is of a job that was sent again a moment ago
    ids = service.submit_many(60)
    service.age(*ids)
    service.store.execute(submissions.mark_sent(service.schema, ids[0]))

    assert service.sweep() == []


def test_a_clock_of_the_server_that_was_put_back_keeps_no_job_from_being_found(
    service: Service,
) -> None:
    service.submit("j")
    service.hold(since_s=-LONG_AGO_S)
    service.age("j", seconds=-LONG_AGO_S)

    assert service.sweep() == ["j"]


@pytest.mark.parametrize("field", ["state", "sent_at", "submitted_at", "priority", "pairs"])
def test_a_record_that_makes_no_sense_does_not_keep_others_from_being_found(
    service: Service, field: str
) -> None:
    service.submit("odd")
    service.client.hset(service.keys.job("odd"), field, "nonsense")
    service.submit("other-type")
    service.client.delete(service.keys.job("other-type"))
    service.client.rpush(service.keys.job("other-type"), "x")
    service.client.expire(service.keys.job("other-type"), 600)
    service.accept("lost")
    service.age("lost")

    assert "lost" in service.sweep()


# Not lost


def test_a_job_whose_message_waits_is_left_alone(service: Service) -> None:
    service.submit("j")
    service.age("j")

    assert service.sweep() == []


def test_jobs_that_wait_behind_many_others_are_left_alone(service: Service) -> None:
    ids = [f"j{place}" for place in range(51)]
    for name in ids:
        service.submit(name)
    service.age(*ids)

    assert service.sweep() == []


@pytest.mark.parametrize(("priority", "step"), PRIORITIES)
def test_a_job_that_waits_on_another_priority_s_list_is_left_alone(
    service: Service, priority: int, step: int
) -> None:
    """Leave jobs of low priority, because those before them may have been submitted much later."""
    service.submit("j", priority)
    service.age("j")
    for other, its_step in PRIORITIES:
        if its_step != step:
            service.submit(f"other-{other}", other)

    assert service.sweep() == []


def test_a_job_that_a_worker_holds_is_left_alone(service: Service) -> None:
    # Given a job that a worker holds, and others that were sent after it
    service.submit("held")
    service.submit("next")
    service.hold()
    service.age("held", "next")

    assert service.sweep() == []


def test_a_running_job_is_left_alone_as_long_as_its_lease_is_renewed(service: Service) -> None:
    """Leave a running attempt, because it does not need its message."""
    service.submit("j")
    service.take()
    service.store.execute(begin(service.schema, "j"))
    service.age("j")

    assert service.sweep() == []


@pytest.mark.parametrize("outcome", [result_of("j"), failure_of("j"), failure_of("j", "cancelled")])
@pytest.mark.parametrize("dead_letter", [True, False])
def test_an_ended_job_is_left_alone(
    service: Service, outcome: jobs.Outcome, dead_letter: bool
) -> None:
    service.submit("j")
    service.take()
    service.store.execute(outcomes.finish(service.schema, outcome, dead_letter=dead_letter))
    service.age("j")

    assert service.sweep() == []


def never_sent(service: Service) -> None:
    service.accept("j")


def taken(service: Service) -> None:
    service.submit("j")
    service.take()


def without_lease(service: Service) -> None:
    taken(service)
    service.store.execute(begin(service.schema, "j"))
    service.client.delete(service.keys.lease("j"))


lost = pytest.mark.parametrize("lose", [never_sent, taken, without_lease])


@lost
def test_what_was_submitted_or_sent_just_now_is_left_alone(
    service: Service, lose: Callable[[Service], None]
) -> None:
    """Leave a message that is between two processes."""
    lose(service)
    service.age("j", seconds=RESEND_AFTER_S / 2)
    assert service.sweep() == []
    service.age("j", seconds=RESEND_AFTER_S / 2)
    assert service.sweep() == ["j"]


# Once


@lost
def test_what_was_sent_is_not_sent_again_before_its_time(
    service: Service, lose: Callable[[Service], None]
) -> None:
    # Given a lost job that was sent again
    lose(service)
    service.age("j")
    assert service.sweep() == ["j"]
    # When the sweeper runs again, then it waits for the message to arrive
    assert service.sweep() == []
    # And after a while it counts as lost again
    service.age("j")
    assert service.sweep() == ["j"]


@lost
def test_what_could_not_be_sent_is_sent_by_the_next_sweep(
    service: Service, lose: Callable[[Service], None]
) -> None:
    lose(service)
    service.age("j")

    def refuse(job: JobSnapshot) -> None:
        raise RedisUnavailable("no message can be sent")

    with pytest.raises(RedisUnavailable):
        service.sweep(refuse)

    assert service.sweep() == ["j"]


def test_only_one_sweeper_looks_at_a_time(service: Service) -> None:
    # Given a sweeper that has found nothing
    assert service.sweep() == []
    # When another one runs soon after, then it finds nothing, whatever is lost
    service.accept("j")
    service.age("j")
    assert service.sweep_in_turn() == []
    # And the turn expires by itself before the next sweep
    left: Any = service.client.pttl(service.keys.sweeper)
    assert 0 < left < 1_000 * SWEEP_EVERY_S
    service.client.delete(service.keys.sweeper)
    assert service.sweep_in_turn() == ["j"]


# Unusual contents


def test_the_id_of_a_job_whose_records_have_expired_is_struck_off(service: Service) -> None:
    # Given ids of jobs that no longer exist
    service.submit("queued")
    service.submit("running")
    service.submit("kept")
    service.store.execute(begin(service.schema, "running"))
    service.client.delete(service.keys.job("queued"), service.keys.job("running"))
    # When the sweeper runs
    assert service.sweep() == []
    # Then they neither wait nor run
    status = service.store.execute(overview.status(service.schema, []))
    assert (status.jobs[JobState.QUEUED], status.jobs[JobState.RUNNING]) == (1, 0)


garbage = pytest.mark.parametrize(
    "raw",
    [
        b"no JSON",
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"headers": 3}',
        b'{"headers": {"id": null}}',
        b'{"headers": {"id": "of-another-service"}}',
        b"[" * 100_000,
    ],
    ids=lambda raw: repr(raw[:50]),
)


@garbage
def test_what_is_no_message_at_the_head_of_the_list_does_no_harm(
    service: Service, raw: bytes
) -> None:
    # Given a queue with jobs after an entry that is not a message
    for name in ("first", "second"):
        service.submit(name)
    service.client.rpush(service.keys.queue_list(6), raw)
    # And jobs that are lost in other ways
    service.accept("never-sent")
    service.submit("taken", names.PRIORITY_SINGLE)
    service.take(step=3)
    service.age("first", "second", "never-sent", "taken")
    # Then the waiting ones are left alone, and the lost ones are sent
    assert sorted(service.sweep()) == ["never-sent", "taken"]


def test_a_job_that_a_worker_holds_for_long_without_beginning_it_is_sent(service: Service) -> None:
    """Send a killed worker's messages, which would return only after the visibility timeout."""
    service.submit("long-held")
    service.hold(since_s=LONG_AGO_S)
    service.age("long-held")

    assert service.sweep() == ["long-held"]


@garbage
def test_what_is_no_message_in_a_workers_hands_does_no_harm(service: Service, raw: bytes) -> None:
    service.submit("held")
    service.hold()
    service.client.hset(service.keys.unacked, "garbage", raw)
    service.client.hset(service.keys.unacked, "other garbage", b"[" + raw + b', "", ""]')
    service.accept("lost")
    service.age("held", "lost")

    assert service.sweep() == ["lost"]


def test_an_unused_service_has_nothing_to_sweep(service: Service) -> None:
    assert service.sweep() == []
    assert service.store.execute(overview.status(service.schema, [])).jobs == dict.fromkeys(
        JobState, 0
    )


# The message


def test_the_message_is_the_producers(
    service: Service, settings: Settings, client: redis.Redis
) -> None:
    app = create_app(service.worker_settings)
    # Given a job of each priority, whose messages were taken and lost
    for priority, step in PRIORITIES:
        service.submit(f"j{priority}", priority)
        service.age(f"j{priority}")
        taken_from = messages(client, settings)
        assert [message.step for message in taken_from] == [step]
        service.take(step)
        # When it is sent again
        assert service.sweep(partial(send_again, app)) == [f"j{priority}"]
        # Then its message is unchanged
        (again,) = messages(client, settings)
        before = taken_from[0]
        assert (again.id, again.step, again.task) == (before.id, step, names.SCORE_TASK)
        assert (again.arguments, again.counts) == (before.arguments, before.counts)
        service.take(step)
    app.close()
