"""Validate messages from the queue before kombu and Celery parse them.

Every client of Redis can put anything on the queue. A message could make Celery:

- decompress data of any size
- run Celery's own tasks (`celery.map` runs ours without its checks)
- publish other messages when a task ends
- change the time limits
- hold the message until a time in the far future

Our producers use none of this, so nothing of it is accepted. The few allowed fields of a message
are read, and a new message is built from them.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator

from contract import jobs, names
from contract.printable import visible
from contract.validation import describe

#: Maximum bytes of a message. Ours have fewer than two thousand.
MAX_BYTES = 64 * 1024

#: A header with the seconds that a retried message must wait after it was received. Celery's own
#: header is a time by the clock of the sending machine.
DELAY_HEADER = "delay_s"


class InvalidMessage(ValueError):
    """An entry of the queue is not one of our messages."""


def _trace_header(value: object) -> str | None:
    """Return a header of a trace; None if it is unusable, because a job needs no trace."""
    if isinstance(value, str) and len(value) <= names.MAX_TRACE_CHARS:
        return value
    return None


_TraceHeader = Annotated[str | None, BeforeValidator(_trace_header)]


class _Headers(BaseModel):
    id: jobs.JobId
    task: str
    retries: int = Field(0, ge=0, le=10**6)
    delay_s: float = Field(0.0, ge=0, allow_inf_nan=False)
    shadow: str | None = Field(None, max_length=300)
    origin: str | None = Field(None, max_length=300)
    redelivered: bool = False
    compression: None = None
    traceparent: _TraceHeader = None
    tracestate: _TraceHeader = None
    baggage: _TraceHeader = None

    @property
    def trace(self) -> dict[str, str]:
        """The headers of the trace that the sender passed on."""
        found = {name: getattr(self, name) for name in names.TRACE_HEADERS}
        return {name: value for name, value in found.items() if value is not None}


class _DeliveryInfo(BaseModel):
    redelivered: bool = False


class _Properties(BaseModel):
    delivery_tag: str = Field(min_length=1, max_length=200)
    body_encoding: Literal["base64"]
    delivery_info: _DeliveryInfo
    priority: int = Field(0, ge=0, le=9)


class _Envelope(BaseModel):
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    headers: _Headers
    properties: _Properties
    body: str


class _Counts(BaseModel):
    requests: int = Field(0, ge=0)
    pairs: int = Field(0, ge=0)


class _Embedded(BaseModel):
    """Messages to publish when the task ends, which must be empty."""

    callbacks: None = None
    errbacks: None = None
    chain: None = None
    chord: None = None

    @field_validator("*", mode="before")
    @classmethod
    def _nothing(cls, value: object) -> object:
        return None if value == [] else value


class _Body(BaseModel):
    content: tuple[tuple[jobs.JobId], _Counts, _Embedded]


def validate(payload: Any, queue: str, max_delay_s: float) -> dict[str, Any]:
    """Return the message `payload` as one of our producers would have sent it to `queue`.

    A retried message waits at most `max_delay_s` from now. Raises `InvalidMessage`.
    """
    _check_task(payload)
    try:
        envelope = _Envelope.model_validate(payload)
        body = _Body.model_validate_json(b'{"content":%b}' % _decode_body(envelope.body)).content
    except ValidationError as error:
        raise InvalidMessage(f"{describe(error)}{_describe_job(payload)}") from error
    (job_id,), counts, _ = body
    if job_id != envelope.headers.id:
        raise InvalidMessage(
            f"its headers name job {envelope.headers.id}, but its body names job {job_id}"
        )
    return _rebuild(envelope.headers, envelope.properties, counts, queue, max_delay_s)


def _check_task(payload: Any) -> None:
    try:
        task = payload["headers"]["task"]
    except (LookupError, TypeError) as error:
        raise InvalidMessage("it has no task name") from error
    if task != names.SCORE_TASK:
        raise InvalidMessage(
            f"it is for task {visible(repr(task)[:100])}, but this worker runs only"
            f" {names.SCORE_TASK}{_describe_job(payload)}"
        )


def _decode_body(body: str) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise InvalidMessage(f"body: {error}") from error


def _describe_job(payload: Any) -> str:
    """Describe which job the message claims to be about, if it has a valid id."""
    try:
        job_id = payload["headers"]["id"]
        return f" (job {job_id})" if jobs.JOB_ID.fullmatch(job_id) else ""
    except (LookupError, TypeError):
        return ""


def _rebuild(
    headers: _Headers, properties: _Properties, counts: _Counts, queue: str, max_delay_s: float
) -> dict[str, Any]:
    job_id, sizes = headers.id, counts.model_dump()
    nothing = dict.fromkeys(_Embedded.model_fields)
    shadow = headers.shadow if (headers.shadow or "").startswith(names.SCORE_TASK) else None
    delay_s = min(headers.delay_s, max_delay_s) if headers.retries else 0.0
    due = datetime.now(UTC) + timedelta(seconds=delay_s)
    again = headers.redelivered or properties.delivery_info.redelivered
    return {
        "body": base64.b64encode(json.dumps([[job_id], sizes, nothing]).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": headers.task,
            "id": job_id,
            "root_id": job_id,
            "retries": headers.retries,
            DELAY_HEADER: delay_s,
            "eta": due.isoformat() if delay_s else None,
            "shadow": shadow,
            "argsrepr": repr((job_id,)),
            "kwargsrepr": repr(sizes),
            "origin": headers.origin,
            "redelivered": again,
            **headers.trace,
        },
        "properties": {
            "correlation_id": job_id,
            "delivery_mode": 2,
            "delivery_tag": properties.delivery_tag,
            "delivery_info": {"exchange": "", "routing_key": queue, "redelivered": again},
            "priority": properties.priority,
            "body_encoding": "base64",
        },
    }
