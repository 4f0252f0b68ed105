"""`/v1/batches`: queue many queries at once, as lines of JSON, and fetch the lines of answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from contract import jobs
from contract.batches import BatchProgress
from contract.errors import InvalidInput, JobNotFound, RerankError
from producer.client.async_batch import AsyncBatch
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


class PairCounts(Answer):
    """The number of pairs of a query and a document."""

    total: int
    completed: int


class BatchAnswer(Answer):
    """The state of a batch."""

    id: str
    state: jobs.JobState
    request_counts: RequestCounts
    pair_counts: PairCounts
    pairs_per_s: float | None = Field(
        None, description="The number of pairs scored in a second since the first job was started."
    )
    left_s: float | None = Field(
        None, description="The number of seconds until the batch has ended, at this speed."
    )
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
    batch = await service.client.submit_many(
        await asyncio.to_thread(batch_lines.requests, lines),
        model=service.model(lines[0].body.model),
        passages=lines[0].body.passages,
        batch_id=batch_id,
        group=batch_id,  # callers share this client, but each has its turns
        trace=trace_context(request),
    )
    response.headers["Location"] = f"{router.prefix}/{batch_id}"
    return _answer(await batch.progress())


@router.get("/{batch_id}", response_model_exclude_none=True)
async def read(batch_id: str, response: Response, service: ServiceParameter) -> BatchAnswer:
    """Answer 202 with the state until all requests have ended, and then 200."""
    found = _answer(await (await _find(service, batch_id)).progress())
    if found.output is None:
        response.status_code = 202
        response.headers["Retry-After"] = str(LOOK_AGAIN_S)
    return found


@router.get("/{batch_id}/output", response_class=StreamingResponse)
async def output(batch_id: str, service: ServiceParameter) -> StreamingResponse:
    """Return a line for each request, in the order of the batch.

    If a job of the batch failed, one line with an `error` replaces those of its requests.
    """
    batch = await _find(service, batch_id)
    progress = await batch.progress()
    if not progress.ended:
        raise Refused(409, "batch_not_ended", f"batch {batch_id} is still {progress.state}")
    return StreamingResponse(_output(service, batch), media_type="application/jsonl")


@router.delete("/{batch_id}", response_model_exclude_none=True)
async def cancel(batch_id: str, service: ServiceParameter) -> BatchAnswer:
    """Cancel the requests that have not been scored; the output has the others."""
    batch = await _find(service, batch_id)
    cancelled = await batch.cancel()
    progress = await batch.progress()
    if not cancelled and progress.state is not jobs.JobState.CANCELLED:
        raise Refused(409, "batch_ended", f"batch {batch_id} has already ended")
    return _answer(progress)


async def _find(service: Service, batch_id: str) -> AsyncBatch:
    try:
        return await service.client.batch(checked(batch_id))
    except InvalidInput as error:
        raise JobNotFound(f"{batch_id} is a job, and not a batch: see /v1/jobs") from error


def _answer(progress: BatchProgress) -> BatchAnswer:
    without = progress.requests - progress.done_requests
    counts = RequestCounts(
        total=progress.requests,
        completed=progress.done_requests,
        failed=without if progress.ended else progress.failed_requests,
    )
    path = f"{router.prefix}/{progress.batch_id}/output" if progress.ended else None
    return BatchAnswer(
        id=progress.batch_id,
        state=progress.state,
        request_counts=counts,
        pair_counts=PairCounts(total=progress.pairs, completed=progress.done_pairs),
        pairs_per_s=progress.pairs_per_s,
        left_s=progress.left_s,
        output=path,
    )


async def _output(service: Service, part_ids: Sequence[str]) -> AsyncIterator[str]:
    for part_id in part_ids:
        try:
            result = await service.client.result(part_id, timeout=READ_S)
        except RerankError as error:
            yield batch_lines.failure(part_id, error)
            continue
        yield await asyncio.to_thread(batch_lines.answers, result)
