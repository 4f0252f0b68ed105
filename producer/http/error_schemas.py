"""Describe the errors of each API in its OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from producer.http.schemas import Answer

#: When each status occurs.
_REASONS = {
    400: "The body is not JSON",
    401: "No valid token",
    404: "No such job or batch",
    409: "Other contents have this id, or the job was cancelled or has ended",
    413: "The body, a text or the number of documents exceeds a limit",
    422: "A field is wrong",
    429: "The queue is full, or too many requests are waiting",
    500: "The model failed while scoring",
    503: "Redis or every worker is away",
    504: "No result in time; the job is cancelled",
}


class RerankError(Answer):
    """An error in the shape of Cohere's API."""

    message: str
    code: str = Field(description="A stable name for programs.")


class TeiError(Answer):
    """An error in the shape of text-embeddings-inference."""

    error: str
    error_type: str


class ErrorDetail(Answer):
    """A fault of a request, and its place."""

    message: str
    code: str = Field(description="A stable name for programs.")
    param: str | None = Field(None, description="The field that was wrong, as `documents[2]`.")


class ErrorAnswer(Answer):
    """An error of jobs and batches."""

    error: ErrorDetail


def responses(model: type[Answer], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of errors with these statuses and bodies; of all by default."""
    return {
        status: {"model": model, "description": _REASONS[status]}
        for status in statuses or tuple(_REASONS)
    }
