"""`/v1/jobs`: queue a query, look after it, and fetch its result later."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from pydantic import Field

from contract import jobs
from contract.errors import InvalidInput, JobFailed, JobNotFound, MixedModels, RerankError
from producer.http import cohere
from producer.http.cohere import RerankAnswer, RerankBody
from producer.http.error_schemas import ErrorAnswer, responses
from producer.http.errors import Refused, code_of
from producer.http.queued import candidates, kept_documents
from producer.http.schemas import Answer
from producer.http.service import Service, ServiceParameter, trace_context

router = APIRouter(
    prefix="/v1/jobs",
    tags=["jobs"],
    responses=responses(ErrorAnswer, 401, 404, 409, 422, 429, 503),
)

#: When to look again at a job that has not ended, in seconds.
LOOK_AGAIN_S = 1
#: The outcome of an ended job is there; this bounds the wait if it expires meanwhile.
READ_S = 5.0

JobKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="An id that you choose: 1 to 128 letters, digits, or any of . _ : -",
    ),
]


class JobAnswer(Answer):
    """The state of a job that has no result."""

    id: str
    state: jobs.JobState
    queued_before: int | None = Field(
        None, description="The number of jobs that are queued before this one."
    )


class JobError(Answer):
    """The reason why a job has no result."""

    code: str
    message: str
    retryable: bool


class FailedJob(Answer):
    """A job that ended without a result."""

    id: str
    state: jobs.JobState
    error: JobError


class DoneJob(RerankAnswer):
    """A job with its result."""

    state: jobs.JobState = jobs.JobState.DONE


@router.post(
    "",
    status_code=202,
    response_model_exclude_none=True,
    responses={409: {"model": ErrorAnswer, "description": "The id is taken by other contents"}},
)
async def submit(
    *,
    request: Request,
    response: Response,
    body: RerankBody,
    service: ServiceParameter,
    key: JobKey = None,
) -> JobAnswer:
    """Queue a query with its documents; `Location` is where its result will be.

    With the same `Idempotency-Key`, the same request is queued once.
    """
    options: dict[str, Any] = {}
    if body.priority is not None:
        options["priority"] = min(body.priority, 9)
    job_id = await service.client.submit(
        body.query,
        candidates(body),
        top_k=body.top_n,
        model=service.model(body.model),
        job_id=key,
        trace=trace_context(request),
        passages=body.passages,
        **options,
    )
    status = await service.client.status(job_id)
    response.headers["Location"] = f"{router.prefix}/{job_id}"
    return JobAnswer(id=job_id, state=status.state, queued_before=status.queued_before)


@router.get(
    "/{job_id}",
    response_model_exclude_none=True,
    responses={202: {"model": JobAnswer, "description": "The job has not ended"}},
)
async def read(
    job_id: str, response: Response, service: ServiceParameter
) -> DoneJob | FailedJob | JobAnswer:
    """Answer 202 with the state until the job has ended, and then 200 with its outcome."""
    status = await _status(service, job_id)
    if status.state not in jobs.FINAL_STATES:
        response.status_code = 202
        response.headers["Retry-After"] = str(LOOK_AGAIN_S)
        return JobAnswer(id=job_id, state=status.state, queued_before=status.queued_before)
    try:
        result = await service.client.result(job_id, timeout=READ_S)
    except (JobFailed, MixedModels) as error:
        return FailedJob(id=job_id, state=_state_after(error), error=_error(error))
    except InvalidInput as error:
        raise JobNotFound(f"{job_id} is a batch, and not a job: see /v1/batches") from error
    if len(result.rankings) != 1:
        raise JobNotFound(f"job {job_id} has several queries: it belongs to a batch")
    (ranking,) = result.rankings
    made = cohere.answer(result, ranking, kept_documents(ranking), "2")
    return DoneJob(**dict(made))


@router.delete("/{job_id}")
async def cancel(job_id: str, service: ServiceParameter) -> JobAnswer:
    """Cancel a job that has not ended; one that is queued is never scored."""
    cancelled = await service.client.cancel(checked(job_id))
    if not cancelled:
        state = (await service.client.status(job_id)).state
        if state is not jobs.JobState.CANCELLED:
            raise Refused(409, "job_ended", f"job {job_id} has already ended: it is {state}")
    return JobAnswer(id=job_id, state=jobs.JobState.CANCELLED)


async def _status(service: Service, job_id: str) -> jobs.JobStatus:
    return await service.client.status(checked(job_id))


def checked(job_id: str) -> str:
    """Return the id. Raises `JobNotFound` if no job can have it."""
    if not jobs.JOB_ID.fullmatch(job_id):
        raise JobNotFound("no job has this id")
    return job_id


def _state_after(error: JobFailed | MixedModels) -> jobs.JobState:
    if isinstance(error, JobFailed):
        return jobs.JobState.after(error.failure)
    return jobs.JobState.FAILED


def _error(error: RerankError) -> JobError:
    message = error.failure.message if isinstance(error, JobFailed) else str(error)
    return JobError(code=code_of(error), message=message, retryable=error.retryable)
