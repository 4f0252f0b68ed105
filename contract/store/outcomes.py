"""Operations on the outcomes of jobs: record one, fetch several, forget one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from contract import jobs, metrics
from contract.columns import ResultColumns
from contract.errors import JobSplit, PayloadInvalid, RerankError, ResultExpired
from contract.store import encoding, scripts
from contract.store.encoding import CannotDecompress
from contract.store.operation import Operation, Schema
from contract.store.statuses import not_found
from contract.validation import describe

T = TypeVar("T")

#: An outcome as it was stored; a result is in the format of its job.
_Decoded = ResultColumns | jobs.Outcome
#: An outcome with the result as columns, or the error that explains why it is not available.
ColumnsOrError = ResultColumns | jobs.Failure | RerankError

#: A result is as large as the ids and metadata of its job, and about 100 bytes per document.
OUTCOME_ROOM_BYTES = 64 * 1024 * 1024


def finish(
    schema: Schema,
    outcome: jobs.Outcome | ResultColumns,
    token: str = "",
    *,
    dead_letter: bool = False,
    counts: metrics.Counts | None = None,
) -> Operation[bool]:
    """Record the outcome of a job and notify waiting clients; return False if it had ended before.

    The outcome is stored in the format in which it is given: see `contract.store.encoding`. With a
    token or its prefix, also return False if another attempt is running. A dead letter keeps
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
            _encode(outcome),
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
    return _fetch(schema, job_ids, _as_record)


def fetch_columns(schema: Schema, job_ids: Sequence[str]) -> Operation[dict[str, ColumnsOrError]]:
    """Return the same as `fetch`, with the results as columns."""
    return _fetch(schema, job_ids, _as_columns)


def _fetch(
    schema: Schema, job_ids: Sequence[str], convert: Callable[[_Decoded], T]
) -> Operation[dict[str, T | RerankError]]:
    keys = schema.keys
    limit_bytes = OUTCOME_ROOM_BYTES + 4 * schema.settings.max_bytes_per_job

    def read(replies: list[Any]) -> dict[str, T | RerankError]:
        found: dict[str, T | RerankError] = {}
        for job_id, (body, state, split) in zip(job_ids, replies[0], strict=True):
            if body is not None:
                found[job_id] = _read_outcome(job_id, body, limit_bytes, convert)
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


def _encode(outcome: _Decoded) -> bytes:
    if isinstance(outcome, ResultColumns):
        return encoding.compress_columns(encoding.columns_body(outcome))
    return encoding.compress_record(outcome.model_dump_json().encode())


def _read_outcome(
    job_id: str, packed: bytes, limit_bytes: int, convert: Callable[[_Decoded], T]
) -> T | PayloadInvalid:
    try:
        return convert(_decode(packed, limit_bytes))
    except CannotDecompress as error:
        return PayloadInvalid(f"cannot decompress the outcome of job {job_id}: {error}")
    except ValidationError as error:
        return PayloadInvalid(f"the outcome of job {job_id} is invalid: {describe(error)}")


def _decode(packed: bytes, limit_bytes: int) -> _Decoded:
    body = encoding.decompress(packed, limit_bytes)
    # A newer worker may add fields, so that callers can be upgraded later than workers.
    if encoding.are_columns(packed):
        return encoding.read_columns(ResultColumns, body, ignore_new=True)
    return jobs.OUTCOME.validate_json(body, extra="ignore")


def _as_record(outcome: _Decoded) -> jobs.Outcome:
    return outcome.result() if isinstance(outcome, ResultColumns) else outcome


def _as_columns(outcome: _Decoded) -> ResultColumns | jobs.Failure:
    return ResultColumns.of(outcome) if isinstance(outcome, jobs.JobResult) else outcome
