"""While an attempt is under way its lease is renewed, and it learns when it counts no more.

The worker's side reads its settings when it is imported: one process plays all the attempts of this
file and prints what it saw.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import redis

from contract.settings import Settings
from contract.store import submissions
from contract.store.blocking import JobStore
from contract.store.schema import Schema
from tests.integration.redis_state import keys_of
from tests.integration.sample_records import job
from tests.processes import environment

DRIVER = """
import json, os, sys, threading
from concurrent.futures import ThreadPoolExecutor
from contract import jobs
from contract.errors import TimeLimitExceeded
from contract.store import attempts, outcomes
from tests.processes import wait_until
from worker.jobs import leases
from worker.runtime.app import settings
from worker.runtime.connection import CHILD_TIMEOUT_S, schema, store

execute, client = store(CHILD_TIMEOUT_S).execute, store(CHILD_TIMEOUT_S).client
seen = {}


def begin(job_id):
    token = leases.new_token("worker@here")
    execute(attempts.start(schema, job_id, token, max_attempts=4, lease_s=settings.lease_s))
    return token


def left(job_id):
    return client.pttl(schema.keys.lease(job_id))


def renewed(job_id):
    before = left(job_id)

    def longer():
        nonlocal before
        now, before = before, left(job_id)
        return before > now

    wait_until(longer, "the lease is renewed")
    return True


def gone(job_id):
    wait_until(lambda: left(job_id) < 0, "the lease ends")
    return True


token = begin("kept")
prefix = leases.token_prefix("worker@here", os.getpid())
seen["token begins with its owner"] = token.startswith(prefix)
with leases.renewed("kept", token) as lease:
    seen["renewed"] = [renewed("kept") for _ in range(3)]
    seen["not lost"] = not lease.lost
    lease.check()
seen["gone after the block"] = gone("kept")

# Redis stood still, or the process did, for longer than the lease.
with leases.renewed("kept", token):
    seen["taken again"] = renewed("kept")

with leases.renewed("cancelled", begin("cancelled")) as lease:
    failure = jobs.Failure(
        job_id="cancelled", code=jobs.CANCELLED, message="-", retryable=False, attempts=1
    )
    execute(outcomes.finish(schema, failure))
    wait_until(lambda: lease.lost, "the attempt learns of its end")
    try:
        lease.check()
    except leases.Superseded as error:
        seen["superseded"] = str(error)

first = begin("taken")
with leases.renewed("taken", first) as lease:
    execute(attempts.release(schema, "taken", first))
    second = begin("taken")
    wait_until(lambda: lease.lost, "the attempt learns of the other")
    seen["lease is the other's"] = client.get(schema.keys.lease("taken")).decode() == second

class OutOfMemoryOnce(leases.Lease):
    # Fails the first time it is looked at.
    looked = 0

    @property
    def job_id(self):
        self.looked += 1
        if self.looked == 1:
            raise MemoryError
        return "kept"

    @job_id.setter
    def job_id(self, _):
        pass

held = leases._renewer(os.getpid()).leases
held[token] = failing = OutOfMemoryOnce("kept", token)
wait_until(lambda: failing.looked > 1, "the failure")
seen["renewed after a failure"] = renewed("kept")
del held[token]

# As in a pool of threads
many = [f"many-{place}" for place in range(20)]
def attempt(job_id):
    with leases.renewed(job_id, begin(job_id)) as lease:
        together.wait(30)
        seen_renewed = renewed(job_id)
        with lease.scoring_slot():
            alone.append(job_id)
            assert alone == [job_id]
            lease.check()
            alone.remove(job_id)
    return seen_renewed

alone, together = [], threading.Barrier(len(many))
with ThreadPoolExecutor(len(many)) as threads:
    seen["all renewed"] = list(threads.map(attempt, many))

# Waits for its turn while another scores, and is cancelled meanwhile
keep = leases.renewed
with keep("first", begin("first")) as first, keep("next", begin("next")) as waiting:
    with first.scoring_slot(), ThreadPoolExecutor(1) as threads:
        def wait_in_vain():
            with waiting.scoring_slot():
                return "scored"
        turn = threads.submit(wait_in_vain)
        execute(outcomes.finish(schema, failure.model_copy(update={"job_id": "next"})))
        seen["cancelled while it waits"] = str(turn.exception(30))

slow = leases.Lease("slow", "token")
slow.began -= settings.soft_time_limit_s + 1
with slow.scoring_slot():
    slow.check()
seen["waiting is not scoring"] = slow.seconds < 30

late = leases.Lease("late", "token")
late.began -= settings.soft_time_limit_s + 1
try:
    late.check()
except TimeLimitExceeded as error:
    seen["too late"] = str(error)

json.dump(seen, sys.stdout)
"""


@pytest.fixture(scope="module")
def seen(redis_url: str) -> Any:
    """What the process saw."""
    settings: Settings = Settings.load(
        redis_url=redis_url, namespace=f"test-{uuid.uuid4().hex[:8]}"
    )
    with redis.Redis.from_url(redis_url) as client:
        store = JobStore(client, Schema(settings))
        many = [f"many-{place}" for place in range(20)]
        for name in ("kept", "cancelled", "taken", "first", "next", *many):
            store.execute(submissions.accept(store.schema, job(name)))
        process = subprocess.run(
            [sys.executable, "-c", DRIVER],
            cwd=Path(__file__).parents[2],
            env=environment(
                RERANKQ_REDIS_URL=redis_url,
                RERANKQ_NAMESPACE=settings.namespace,
                RERANKQ_LEASE_S="0.6",
                RERANKQ_SOFT_TIME_LIMIT_S="30",
            ),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        client.delete(*keys_of(client, settings))
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_a_token_begins_with_the_process_it_is_of(seen: Any) -> None:
    assert seen["token begins with its owner"]


def test_a_lease_is_renewed_as_long_as_it_is_kept_and_then_ends(seen: Any) -> None:
    assert seen["renewed"] == [True] * 3
    assert seen["not lost"]
    assert seen["gone after the block"]


def test_a_lease_that_ended_though_its_process_lives_is_taken_again(seen: Any) -> None:
    assert seen["taken again"]


def test_an_attempt_learns_that_its_job_has_ended(seen: Any) -> None:
    assert seen["superseded"] == "job cancelled has ended meanwhile"


def test_an_attempt_learns_that_another_has_taken_its_place_and_leaves_it_its_lease(
    seen: Any,
) -> None:
    assert seen["lease is the other's"]


def test_a_failure_to_renew_is_not_the_end_of_renewals(seen: Any) -> None:
    assert seen["renewed after a failure"]


def test_the_leases_of_all_attempts_of_a_process_are_renewed_and_their_turns_do_not_overlap(
    seen: Any,
) -> None:
    assert seen["all renewed"] == [True] * 20


def test_an_attempt_that_waits_for_its_turn_learns_that_its_job_has_ended(seen: Any) -> None:
    assert seen["cancelled while it waits"] == "job next has ended meanwhile"


def test_the_time_limit_begins_with_the_scoring_lock(seen: Any) -> None:
    assert seen["waiting is not scoring"]


def test_an_attempt_learns_that_it_takes_too_long(seen: Any) -> None:
    """Celery's own time limit is not kept while Redis is away."""
    assert seen["too late"].startswith("not done after 30 s (RERANKQ_SOFT_TIME_LIMIT_S)")
