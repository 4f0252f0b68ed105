"""Answer errors with a status, and with a body in the shape of the API that was called.

* Cohere, Jina     `{"message": ..., "code": ...}`
* TEI              `{"error": ..., "error_type": ...}`
* jobs, batches    `{"error": {"message": ..., "code": ..., "param": ...}}`
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from contract import errors, validation
from contract.printable import visible

#: The status of each error; the first matching class determines it.
STATUSES: tuple[tuple[type[errors.RerankError], int], ...] = (
    (errors.JobConflict, 409),
    (errors.LimitExceeded, 413),
    (errors.InvalidInput, 422),
    (errors.Overloaded, 429),
    (errors.JobNotFound, 404),
    (errors.ResultTimeout, 504),
    (errors.RedisUnavailable, 503),
    (errors.NoWorker, 503),
    (errors.ClientUnusable, 503),
    (errors.RerankError, 500),
)
#: The status of a job that failed, by the code of its failure; 500 for all others.
FAILURE_STATUSES = {
    "cancelled": 409,
    "limit_exceeded": 413,
    "model_not_allowed": 422,
    "model_unavailable": 503,
    "out_of_memory": 503,
    "time_limit": 504,
}
#: When to try again, in seconds, by status.
RETRY_AFTER_S = {429: 2, 503: 5}
#: TEI's names for kinds of errors, by status.
TEI_TYPES = {400: "Validation", 413: "Validation", 422: "Validation", 429: "Overloaded"}


class Refused(HTTPException):
    """A request that the service does not answer with a result."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, headers)
        self.code = code


def status_of(error: errors.RerankError) -> int:
    """Return the HTTP status for an error."""
    if isinstance(error, errors.JobFailed):
        return FAILURE_STATUSES.get(error.failure.code, 500)
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def code_of(error: errors.RerankError) -> str:
    """Return the stable name of an error: that of the failure, if a job failed."""
    return error.failure.code if isinstance(error, errors.JobFailed) else error.code


def response(
    path: str,
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return the answer to a request for `path` that failed."""
    extra = dict(headers or {})
    if status in RETRY_AFTER_S:
        extra.setdefault("Retry-After", str(RETRY_AFTER_S[status]))
    body = _body(path, status, code, visible(message), visible(param) if param else None)
    return JSONResponse(body, status, extra)


def _body(path: str, status: int, code: str, message: str, param: str | None) -> dict[str, Any]:
    if path == "/rerank":
        return {"error": message, "error_type": TEI_TYPES.get(status, "Backend")}
    if path in ("/v1/rerank", "/v2/rerank"):
        return {"message": message, "code": code}
    return {"error": {"message": message, "code": code, "param": param}}


def install(app: FastAPI) -> None:
    """Make the app answer all errors in the shapes above."""
    app.add_exception_handler(errors.RerankError, _on_rerank_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_rerank_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.RerankError)  # noqa: S101
    return response(request.url.path, status_of(error), code_of(error), str(error))


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    path, status = request.url.path, error.status_code
    if isinstance(error, Refused):
        return response(path, status, error.code, error.detail, headers=error.headers)
    if status == 404:
        message = f"{request.method} {path} is not part of this API: see /openapi.json"
        return response(path, status, "not_found", message)
    if status == 400:  # FastAPI could not parse the body, and does not say why
        return response(path, status, "invalid_json", "the body is not JSON in UTF-8")
    code = HTTPStatus(status).phrase.lower().replace(" ", "_")
    return response(path, status, code, error.detail, headers=error.headers)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    path, faults = request.url.path, error.errors()
    first = faults[0]
    if isinstance(error.body, bytes):
        message = "send JSON, with the header Content-Type: application/json"
        return response(path, 415, "not_json", message)
    if first["type"] == "json_invalid":
        at = f" at character {first['loc'][-1]}"
        return response(path, 400, "invalid_json", f"the body is not JSON{at}")
    where = validation.place(first["loc"][1:])
    message = f"{where or 'the body'}: {validation.reason(first)}"
    more = f" (1 of {len(faults)} errors)" if len(faults) > 1 else ""
    return response(path, 422, "invalid_input", message + more, param=where or None)


async def _on_unexpected(request: Request, error: Exception) -> JSONResponse:
    # Starlette raises the error again, and uvicorn logs it.
    message = "internal error; see the log of the HTTP service"
    return response(request.url.path, 500, "internal_error", message)
