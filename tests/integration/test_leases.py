"""A running attempt renews its lease, and stops when it no longer counts."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from contract import jobs
from contract.errors import TimeLimitExceeded
from contract.settings import Settings
from contract.store import attempts, outcomes, submissions
from tests.integration.sample_records import failure_of, job
from tests.processes import wait_until
from worker.jobs.leases import Lease, Leases, Superseded, new_token, token_prefix
from worker.runtime.connection import CHILD_TIMEOUT_S
from worker.runtime.context import WorkerContext
from worker.runtime.settings import WorkerSettings

LEASE_S, SOFT_TIME_LIMIT_S = 0.6, 30


class Attempts:
    """The attempts of one process, with leases of a fraction of a second."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._context = WorkerContext(
            WorkerSettings.load(
                redis_url=settings.redis_url.get_secret_value(),
                namespace=settings.namespace,
                lease_s=LEASE_S,
                soft_time_limit_s=SOFT_TIME_LIMIT_S,
            )
        )
        self._client = client
        self.leases = Leases(self._context)
        self.execute = self._context.store(CHILD_TIMEOUT_S).execute
        self.schema = self._context.schema

    def begin(self, job_id: str) -> Lease:
        """Begin an attempt at a job; return its lease, which is not renewed yet."""
        self.execute(submissions.accept(self.schema, job(job_id)))
        return self.begin_again(job_id)

    def begin_again(self, job_id: str) -> Lease:
        token = new_token("worker@here")
        self.execute(attempts.start(self.schema, job_id, token, max_attempts=4, lease_s=LEASE_S))
        return self.leases.lease(job_id, token)

    def cancel(self, job_id: str) -> None:
        self.execute(outcomes.finish(self.schema, failure_of(job_id, jobs.CANCELLED)))

    def holder(self, job_id: str) -> str:
        """Return the token of the attempt that has the lease."""
        token: Any = self._client.get(self.schema.keys.lease(job_id))
        return str(token.decode())

    def await_renewal(self, job_id: str) -> None:
        before = self._left_ms(job_id)

        def longer() -> bool:
            nonlocal before
            now, before = before, self._left_ms(job_id)
            return before > now

        wait_until(longer, "the lease is renewed")

    def await_end(self, job_id: str) -> None:
        wait_until(lambda: self._left_ms(job_id) < 0, "the lease ends")

    def _left_ms(self, job_id: str) -> int:
        left: Any = self._client.pttl(self.schema.keys.lease(job_id))
        return int(left)


@pytest.fixture
def process(settings: Settings, client: redis.Redis) -> Iterator[Attempts]:
    made = Attempts(settings, client)
    yield made
    made.leases.close()


def test_a_token_begins_with_the_process_it_is_of() -> None:
    prefix = token_prefix("worker@here", os.getpid())

    assert new_token("worker@here").startswith(prefix)


def test_a_lease_is_renewed_as_long_as_it_is_kept_and_then_ends(process: Attempts) -> None:
    with process.leases.renewed(process.begin("j")) as lease:
        for _ in range(3):
            process.await_renewal("j")
        assert not lease.lost
        lease.check()

    process.await_end("j")


def test_a_lease_that_ended_though_its_process_lives_is_taken_again(process: Attempts) -> None:
    """Lose the lease, as after a pause of Redis or of the process."""
    lease = process.begin("j")
    process.await_end("j")

    with process.leases.renewed(lease):
        process.await_renewal("j")


def test_an_attempt_learns_that_its_job_has_ended(process: Attempts) -> None:
    with process.leases.renewed(process.begin("j")) as lease:
        process.cancel("j")
        wait_until(lambda: lease.lost, "the attempt learns of its end")

        with pytest.raises(Superseded, match="job j ended during this attempt"):
            lease.check()


def test_an_attempt_learns_that_another_has_taken_its_place_and_leaves_it_its_lease(
    process: Attempts,
) -> None:
    with process.leases.renewed(process.begin("j")) as lease:
        process.execute(attempts.release(process.schema, "j", lease.token))
        second = process.begin_again("j")
        wait_until(lambda: lease.lost, "the attempt learns of the other")

        assert process.holder("j") == second.token


class OutOfMemoryOnce:
    """A lease whose first renewal runs out of memory."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self.looked = 0

    def __getattr__(self, name: str) -> Any:
        if name == "job_id":
            self.looked += 1
            if self.looked == 1:
                raise MemoryError
        return getattr(self._lease, name)


def test_a_failure_to_renew_is_not_the_end_of_renewals(process: Attempts) -> None:
    failing: Any = OutOfMemoryOnce(process.begin("j"))

    with process.leases.renewed(failing):
        wait_until(lambda: failing.looked > 1, "the failure")
        process.await_renewal("j")


def test_the_leases_of_all_attempts_of_a_process_are_renewed_and_their_turns_do_not_overlap(
    process: Attempts,
) -> None:
    """Run in threads, as in a pool of threads."""
    ids = [f"j{place}" for place in range(20)]
    scoring: list[str] = []
    together = threading.Barrier(len(ids))

    def attempt(job_id: str) -> list[str]:
        with process.leases.renewed(process.begin(job_id)) as lease:
            together.wait(30)
            process.await_renewal(job_id)
            with lease.scoring_slot():
                scoring.append(job_id)
                seen = list(scoring)
                lease.check()
                scoring.remove(job_id)
        return seen

    with ThreadPoolExecutor(len(ids)) as threads:
        assert list(threads.map(attempt, ids)) == [[job_id] for job_id in ids]


def test_an_attempt_that_waits_for_its_turn_learns_that_its_job_has_ended(
    process: Attempts,
) -> None:
    def wait_in_vain(lease: Lease) -> None:
        with lease.scoring_slot():
            raise AssertionError("it scored")

    renewed = process.leases.renewed
    with (
        renewed(process.begin("first")) as first,
        renewed(process.begin("next")) as waiting,
        first.scoring_slot(),
        ThreadPoolExecutor(1) as threads,
    ):
        waits = threads.submit(wait_in_vain, waiting)
        process.cancel("next")

        with pytest.raises(Superseded, match="job next ended during this attempt"):
            waits.result(30)


def test_the_time_limit_begins_with_the_turn(process: Attempts) -> None:
    slow = process.leases.lease("slow", "token")
    slow.began -= SOFT_TIME_LIMIT_S + 1

    with slow.scoring_slot():
        slow.check()

    assert slow.seconds < SOFT_TIME_LIMIT_S


def test_an_attempt_learns_that_it_takes_too_long(process: Attempts) -> None:
    """Enforce a time limit, because Celery does not enforce its own while Redis is away."""
    late = process.leases.lease("late", "token")
    late.began -= SOFT_TIME_LIMIT_S + 1

    with pytest.raises(
        TimeLimitExceeded, match=r"not finished within 30 s \(RERANKQ_SOFT_TIME_LIMIT_S"
    ):
        late.check()
