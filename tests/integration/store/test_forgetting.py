"""Forgetting a job removes its outcome, and leaves its state for late messages."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio

from contract.errors import (
    JobNotFound,
)
from contract.jobs import JobState
from contract.settings import Settings
from contract.store import outcomes, statuses, submissions
from contract.store.operation import Schema
from tests.integration.redis_state import keys_of, payload
from tests.integration.sample_records import job, result_of
from tests.integration.stand_ins import begin
from tests.integration.store.conftest import Execute


def test_an_outcome_outlives_forgetting_only_as_a_state(execute: Execute, schema: Schema) -> None:
    """Refuse a late outcome even after the caller removed the first one."""
    execute(submissions.accept(schema, job("j")))
    execute(outcomes.finish(schema, result_of("j")))
    execute(outcomes.forget(schema, "j"))

    assert not execute(outcomes.finish(schema, result_of("j", downgraded=True)))
    assert execute(begin(schema, "j")).attempts == 0
    assert isinstance(execute(outcomes.fetch(schema, ["j"]))["j"], JobNotFound)


def test_forgetting_a_job_removes_its_outcome_and_keeps_its_state(
    execute: Execute, schema: Schema, client: redis.Redis
) -> None:
    execute(submissions.accept(schema, job("j")))
    execute(outcomes.finish(schema, result_of("j")))

    execute(outcomes.forget(schema, "j"))

    assert not client.exists(schema.keys.outcome("j"))
    assert execute(statuses.fetch(schema, "j")).state == JobState.DONE


def test_forgetting_a_job_that_has_not_ended_changes_nothing(
    execute: Execute, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    """Keep its record for as long as it may wait on the queue."""
    execute(submissions.accept(schema, job("j")))

    execute(outcomes.forget(schema, "j"))

    left: Any = client.ttl(schema.keys.job("j"))
    assert left > settings.job_ttl_s - 60
    assert execute(payload(schema, "j")).id == "j"


def test_forgetting_an_unknown_job_makes_no_record(
    execute: Execute, schema: Schema, client: redis.Redis, settings: Settings
) -> None:
    execute(outcomes.forget(schema, "unknown"))

    assert keys_of(client, settings) == []
