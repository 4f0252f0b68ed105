"""Admit requests: tokens, the number of waiting requests, the size of bodies, and the access log.

This is plain ASGI, so that a handler sees at once when its caller hangs up.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.http import auth
from producer.http.errors import Refused, response
from producer.http.request_metrics import RequestMetrics
from producer.http.settings import HttpSettings

access_log = logging.getLogger("rerankq.http.access")

#: A request whose body does not arrive within this time is refused.
BODY_TIMEOUT_S = 30.0


class Admission:
    """Wraps the app, and refuses requests that it should not see."""

    def __init__(self, app: ASGIApp, settings: HttpSettings, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics
        self._tokens = settings.http_tokens
        self._max_body_bytes = settings.http_max_body_bytes
        self._max_waiting = settings.http_max_waiting
        self._logs = settings.http_access_log == "json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = Answer(scope, send, self._metrics, logs=self._logs)
        try:
            self._check(Request(scope))
            await self._pass_on(scope, Body(receive, self._max_body_bytes).receive, answer.send)
        except Refused as refused:
            await _refusal(scope, refused)(scope, receive, answer.send)
        except asyncio.CancelledError:
            # uvicorn cancels what it has not answered when the time to stop is over. It would
            # answer 500, which means that the same request fails again.
            if answer.has_begun:
                raise
            await _refusal(scope, _stopping())(scope, receive, answer.send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in auth.OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        with self._metrics.waiting():
            await self._app(scope, receive, send)

    def _check(self, request: Request) -> None:
        if request.url.path in auth.OPEN_PATHS:
            return
        if not auth.is_allowed(request.headers.get("authorization"), self._tokens):
            raise Refused(
                401,
                "unauthorized",
                "no valid token: send the header Authorization: Bearer ...",
                headers={"WWW-Authenticate": "Bearer"},
            )
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body_bytes:
            raise _too_large(self._max_body_bytes)
        if self._metrics.now_waiting >= self._max_waiting:
            raise Refused(
                429,
                "too_many_requests",
                f"the limit of {self._max_waiting:,} waiting requests is reached"
                " (RERANKQ_HTTP_MAX_WAITING). Try again later",
            )


class Answer:
    """Sends the answer to one request, and counts and logs the request when it begins."""

    def __init__(self, scope: Scope, send: Send, metrics: RequestMetrics, *, logs: bool) -> None:
        self._scope = scope
        self._send = send
        self._metrics = metrics
        self._logs = logs
        self._began = time.monotonic()
        self.has_begun = False

    async def send(self, message: Message) -> None:
        """Send the next message."""
        if message["type"] == "http.response.start":
            self.has_begun = True
            status, seconds = message["status"], time.monotonic() - self._began
            self._metrics.count(self._scope["path"], status, seconds)
            if self._logs:
                _log(self._scope, status, seconds)
        await self._send(message)


class Body:
    """Receives the body of one request, up to a size and within a time."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._size = 0
        self._complete = False
        self._deadline = time.monotonic() + BODY_TIMEOUT_S

    async def receive(self) -> Message:
        """Return the next message. Raises `Refused` if the body is too large, or too slow."""
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise Refused(
                408, "body_too_slow", f"the body did not arrive within {BODY_TIMEOUT_S:g} s"
            ) from None
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
        if self._size > self._max_bytes:
            raise _too_large(self._max_bytes)
        return message


def _refusal(scope: Scope, refused: Refused) -> Response:
    path, status = Request(scope).url.path, refused.status_code
    return response(path, status, refused.code, refused.detail, headers=refused.headers)


def _stopping() -> Refused:
    return Refused(503, "stopping", "the service is stopping; send the request again")


def _too_large(limit: int) -> Refused:
    return Refused(
        413,
        "body_too_large",
        f"the body is larger than {limit:,} bytes (RERANKQ_HTTP_MAX_BODY_BYTES)",
    )


def _log(scope: Scope, status: int, seconds: float) -> None:
    entry: dict[str, Any] = {
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "seconds": round(seconds, 4),
    }
    access_log.info(json.dumps(entry))
