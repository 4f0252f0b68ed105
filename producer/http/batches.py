"""`/v1/batches`: queue many queries at once, as lines of JSON, and fetch the lines of answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from contract import jobs
from contract.errors import JobNotFound, RerankError
from producer.http import batch_lines
from producer.http.error_schemas import ErrorAnswer, responses
from producer.http.errors import Refused
from producer.http.jobs import LOOK_AGAIN_S, READ_S, JobKey, checked
from producer.http.schemas import DOCUMENTS, QUERY, Answer
from producer.http.service import Service, ServiceParameter, trace_context

router = APIRouter(
    prefix="/v1/batches",
    tags=["batches"],
    responses=responses(ErrorAnswer, 400, 401, 404, 409, 413, 422, 429, 503),
)

EXAMPLE = {"custom_id": "query-1", "body": {"query": QUERY, "documents": DOCUMENTS, "top_n": 1}}
#: The body is not JSON but lines of it, so it is described here.
REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/jsonl": {
                "schema": batch_lines.BatchLine.model_json_schema(
                    ref_template="#/components/schemas/{model}"
                ),
                "example": EXAMPLE,
            }
        },
    }
}


class RequestCounts(Answer):
    """The number of requests of a batch."""

    total: int
    completed: int
    failed: int


class BatchAnswer(Answer):
    """The state of a batch."""

    id: str
    state: jobs.JobState
    request_counts: RequestCounts
    output: str | None = Field(None, description="The path of the output, after the end.")


@router.post("", status_code=202, response_model_exclude_none=True, openapi_extra=REQUEST_BODY)
async def submit(
    *, request: Request, response: Response, service: ServiceParameter, key: JobKey = None
) -> BatchAnswer:
    """Queue the requests in the lines of the body: `{"custom_id": ..., "body": {...}}`.

    All lines are checked first, and nothing is queued if one is wrong. With the same
    `Idempotency-Key`, the same batch is queued once.
    """
    lines = await asyncio.to_thread(batch_lines.read, await request.body())
    batch_id = key or jobs.new_job_id()
    await service.client.submit_many(
        await asyncio.to_thread(batch_lines.requests, lines),
        model=service.model(lines[0].body.model),
        batch_id=batch_id,
        trace=trace_context(request),
    )
    response.headers["Location"] = f"{router.prefix}/{batch_id}"
    return await _state(service, batch_id)


@router.get("/{batch_id}", response_model_exclude_none=True)
async def read(batch_id: str, response: Response, service: ServiceParameter) -> BatchAnswer:
    """Answer 202 with the state until all requests have ended, and then 200."""
    found = await _state(service, batch_id)
    if found.output is None:
        response.status_code = 202
        response.headers["Retry-After"] = str(LOOK_AGAIN_S)
    return found


@router.get("/{batch_id}/output", response_class=StreamingResponse)
async def output(batch_id: str, service: ServiceParameter) -> StreamingResponse:
    """Return a line for each request, in the order of the batch.

    If a job of the batch failed, one line with an `error` replaces those of its requests.
    """
    found = await _state(service, batch_id)
    if found.output is None:
        raise Refused(409, "batch_not_ended", f"batch {batch_id} is still {found.state}")
    part_ids = await service.client.parts(batch_id)
    return StreamingResponse(_output(service, part_ids), media_type="application/jsonl")


@router.delete("/{batch_id}", response_model_exclude_none=True)
async def cancel(batch_id: str, service: ServiceParameter) -> BatchAnswer:
    """Cancel the requests that have not been scored; the output has the others."""
    if not await service.client.cancel(checked(batch_id)):
        state = await _state(service, batch_id)
        if state.state is not jobs.JobState.CANCELLED:
            raise Refused(409, "batch_ended", f"batch {batch_id} has already ended")
    return await _state(service, batch_id)


async def _state(service: Service, batch_id: str) -> BatchAnswer:
    part_ids = await service.client.parts(checked(batch_id))
    if part_ids == (batch_id,):
        raise JobNotFound(f"{batch_id} is a job, and not a batch: see /v1/jobs")
    parts = [await service.client.status(each) for each in part_ids]
    whole = await service.client.status(batch_id)
    done = [each for each in parts if each.state is jobs.JobState.DONE]
    failed = [
        each for each in parts if each.state in (jobs.JobState.FAILED, jobs.JobState.CANCELLED)
    ]
    counts = RequestCounts(
        total=sum(each.requests for each in parts),
        completed=sum(each.requests for each in done),
        failed=sum(each.requests for each in failed),
    )
    ended = len(done) + len(failed) == len(parts)
    path = f"{router.prefix}/{batch_id}/output" if ended else None
    return BatchAnswer(id=batch_id, state=whole.state, request_counts=counts, output=path)


async def _output(service: Service, part_ids: tuple[str, ...]) -> AsyncIterator[str]:
    for part_id in part_ids:
        try:
            result = await service.client.result(part_id, timeout=READ_S)
        except RerankError as error:
            yield batch_lines.failure(part_id, error)
            continue
        yield await asyncio.to_thread(batch_lines.answers, result)
