"""Read the body of a batch, and write its output."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from contract import jobs, validation
from contract.errors import JobFailed, RerankError
from producer.formats import batch_lines
from producer.http import cohere
from producer.http.cohere import RerankBody
from producer.http.errors import Refused, code_of, status_of
from producer.http.queued import candidates, kept_documents


class BatchLine(batch_lines.BatchLine[RerankBody]):
    """A request of a batch, with the id that its answer has too."""


#: Fields of an answer that count all requests of a job together.
_OF_THE_JOB: Any = {"usage": True, "meta": {"tokens", "billed_units"}}


def read(content: bytes) -> list[BatchLine]:
    """Return the lines of a batch. Raises `Refused`, which names the line."""
    lines: list[BatchLine] = []
    numbers: dict[str, int] = {}
    for number, raw in enumerate(content.split(b"\n"), start=1):
        if not raw.strip():
            continue
        line = _line(number, raw)
        first = numbers.setdefault(line.custom_id, number)
        if first != number:
            raise _wrong(number, f"custom_id: {line.custom_id!r} is already in line {first}")
        if lines and line.body.model != lines[0].body.model:
            raise _wrong(
                number, "body.model: differs from the first line; submit one batch per model"
            )
        if lines and line.body.passages != lines[0].body.passages:
            raise _wrong(
                number, "body.passages: differs from the first line; submit one batch for each"
            )
        lines.append(line)
    if not lines:
        raise Refused(422, "invalid_input", "the batch has no lines")
    return lines


def _line(number: int, raw: bytes) -> BatchLine:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "invalid_json", f"line {number}: is not JSON in UTF-8") from error
    try:
        return BatchLine.model_validate(data)
    except ValidationError as error:
        raise _wrong(number, validation.describe(error)) from error


def _wrong(number: int, message: str) -> Refused:
    return Refused(422, "invalid_input", f"line {number}: {message}")


def requests(lines: list[BatchLine]) -> list[dict[str, Any]]:
    """Return the requests of the lines, as `submit_many` takes them."""
    return [
        {
            "query_id": line.custom_id,
            "query": line.body.query,
            "candidates": candidates(line.body),
            "top_k": line.body.top_n,
        }
        for line in lines
    ]


def answers(result: jobs.JobResult) -> str:
    """Return the output lines of the requests of a job."""
    return "".join(_answer(result, ranking) for ranking in result.rankings)


def _answer(result: jobs.JobResult, ranking: jobs.Ranking) -> str:
    body = cohere.answer(result, ranking, kept_documents(ranking), "2")
    content = body.model_dump(mode="json", exclude=_OF_THE_JOB, exclude_none=True)
    return batch_lines.answer_line(ranking.query_id, content, request_id=result.job_id)


def failure(job_id: str, error: RerankError) -> str:
    """Return the output line of a job without a result: its id ends with the range of its lines."""
    message = error.failure.message if isinstance(error, JobFailed) else str(error)
    response = {"status_code": status_of(error), "request_id": job_id, "body": None}
    numbers = job_id.rpartition(".")[2]
    return batch_lines.failure_line(None, code_of(error), message, response, requests=numbers)
