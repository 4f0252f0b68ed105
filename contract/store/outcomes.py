"""Operations on the outcomes of jobs: record one, fetch several, forget one."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from contract import jobs, metrics
from contract.errors import JobSplit, PayloadInvalid, ResultExpired
from contract.store import scripts
from contract.store.operation import Operation, Schema
from contract.store.statuses import not_found
from contract.store.submissions import compress, decompress
from contract.validation import describe

#: A result is as large as the ids and metadata of its job, and about 100 bytes per document.
OUTCOME_ROOM_BYTES = 64 * 1024 * 1024


def finish(
    schema: Schema,
    outcome: jobs.Outcome,
    token: str = "",
    *,
    dead_letter: bool = False,
    counts: metrics.Counts | None = None,
) -> Operation[bool]:
    """Record the outcome of a job and notify waiting clients; return False if it had ended before.

    With a token or its prefix, also return False if another attempt is running. A dead letter keeps
    its payload. `counts` are added to the counters, in addition to those of the outcome.
    """
    keys, job_id = schema.keys, outcome.job_id
    failure = outcome if isinstance(outcome, jobs.Failure) else None
    return scripts.call(
        "finish",
        (
            keys.job(job_id),
            keys.outcome(job_id),
            keys.payload(job_id),
            keys.queued,
            keys.running,
            keys.totals,
            keys.lease(job_id),
            keys.dead,
            keys.counters,
        ),
        (
            job_id,
            compress(outcome.model_dump_json().encode()),
            jobs.JobState.after(outcome).value,
            failure.code if failure else "",
            keys.done,
            schema.settings.result_ttl_s,
            schema.state_ttl_s,
            token,
            failure.message if failure and dead_letter else "",
            *metrics.arguments({**metrics.outcome_counts(outcome), **(counts or {})}),
        ),
        lambda replies: bool(replies[0]),
    )


def fetch(schema: Schema, job_ids: Sequence[str]) -> Operation[dict[str, jobs.OutcomeOrError]]:
    """Return the outcomes of the jobs in `job_ids` that have ended.

    An error replaces an outcome that has expired, cannot be read, or must be merged from parts.
    """
    keys = schema.keys
    limit_bytes = OUTCOME_ROOM_BYTES + 4 * schema.settings.max_bytes_per_job

    def read(replies: list[Any]) -> dict[str, jobs.OutcomeOrError]:
        found: dict[str, jobs.OutcomeOrError] = {}
        for job_id, (body, state, split) in zip(job_ids, replies[0], strict=True):
            if body is not None:
                found[job_id] = _read_outcome(job_id, body, limit_bytes)
            elif split is not None:
                found[job_id] = JobSplit(jobs.SplitJob.model_validate_json(split))
            elif state is None:
                found[job_id] = not_found(job_id)
            elif state.decode() not in (jobs.JobState.QUEUED, jobs.JobState.RUNNING):
                found[job_id] = _expired(job_id, state.decode())
        return found

    both = [key for job_id in job_ids for key in (keys.outcome(job_id), keys.job(job_id))]
    return scripts.call("fetch_outcomes", both, (), read)


def forget(schema: Schema, job_id: str) -> Operation[jobs.SplitJob | None]:
    """Remove the outcome of a job after its caller has stored it; return how the job was split.

    The job's small state is kept a while longer, so that a message delivered twice finds the job
    ended. A dead letter is removed too, because its caller has read the failure.
    """
    keys = schema.keys

    def read(replies: list[Any]) -> jobs.SplitJob | None:
        split = replies[0]
        return None if split is None else jobs.SplitJob.model_validate_json(split)

    return scripts.call(
        "forget",
        (keys.job(job_id), keys.outcome(job_id), keys.payload(job_id), keys.dead),
        (job_id, 2 * schema.settings.visibility_timeout_s),
        read,
    )


def _expired(job_id: str, state: str) -> ResultExpired:
    return ResultExpired(
        f"job {job_id} has ended ({state}), but its result has expired (RERANKQ_RESULT_TTL_S) or"
        " was removed; submit the job again"
    )


def _read_outcome(job_id: str, packed: bytes, limit_bytes: int) -> jobs.OutcomeOrError:
    try:
        # A newer worker may add fields, so that callers can be upgraded later than workers.
        return jobs.OUTCOME.validate_json(decompress(packed, limit_bytes), extra="ignore")
    except zlib.error as error:
        return PayloadInvalid(f"cannot decompress the outcome of job {job_id}: {error}")
    except ValidationError as error:
        return PayloadInvalid(f"the outcome of job {job_id} is invalid: {describe(error)}")
