"""Rerank for a handler: until the result, the deadline, or the end of the caller's connection."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, Unpack

from fastapi import Depends, Request
from opentelemetry import propagate

from contract import jobs, names
from contract.errors import ModelNotAllowed, NoWorker, RerankError
from contract.printable import shortened
from producer.client.asynchronous import AsyncRerankClient
from producer.client.options import SubmitOptions
from producer.client.preparing import Document
from producer.http.errors import Refused
from producer.http.settings import DEFAULT, HttpSettings

T = TypeVar("T")

TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
#: The header with which a caller shortens the wait, in seconds.
TIMEOUT_HEADER = "request-timeout"
#: How long a worker may take to answer that it is there, and how often it may fail to.
PING_S, PINGS = 1.0, 2


@dataclass(frozen=True)
class Service:
    """The client that all handlers share, which submits jobs and awaits their results."""

    settings: HttpSettings
    client: AsyncRerankClient

    async def rerank(
        self,
        request: Request,
        query: str,
        documents: Iterable[Document],
        **options: Unpack[SubmitOptions],
    ) -> jobs.JobResult:
        """Return the result of one query.

        The job is cancelled if its deadline passes or the caller hangs up. Raises the errors of
        `AsyncRerankClient.rerank`, `NoWorker`, or `Refused`.
        """
        timeout_s = self.timeout_s(request)
        options["trace"] = trace_context(request)
        scoring = self.client.rerank(query, documents, timeout=timeout_s, **options)
        return await _until_hang_up(request, self._while_workers_answer(scoring))

    def timeout_s(self, request: Request) -> float:
        """Return how long the caller waits. Raises `Refused` if its header is not a time."""
        given = request.headers.get(TIMEOUT_HEADER)
        if given is None:
            return self.settings.http_timeout_s
        with suppress(ValueError):
            if (seconds := float(given)) > 0 and math.isfinite(seconds):
                return min(seconds, self.settings.http_timeout_s)
        raise Refused(
            400, "invalid_timeout", "Request-Timeout: must be a number of seconds above 0"
        )

    def model(self, name: str | None) -> str | None:
        """Return the model that a request means; None for the workers' default.

        Raises `ModelNotAllowed`, which lists the names that can be sent.
        """
        aliases = self.settings.http_model_aliases
        model = aliases.get(name, name) if name else None
        if model is None or model == DEFAULT:
            return None
        if self.settings.allows(model):
            return model
        allowed = (self.settings.cross_encoder_model, *self.settings.allowed_models, *aliases)
        known = ", ".join(dict.fromkeys((DEFAULT, *allowed)))
        raise ModelNotAllowed(
            f"model: {shortened(repr(name))} is not available; send one of {known}"
            " (RERANKQ_ALLOWED_MODELS, RERANKQ_HTTP_MODEL_ALIASES)"
        )

    async def _while_workers_answer(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`; cancel it and raise `NoWorker` if no worker is running."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait([task], timeout=self.settings.http_no_worker_s))[0]:
                if not await self._is_any_worker_running() and not task.done():
                    raise NoWorker("no worker is running, so nothing can be scored")
            return task.result()
        finally:
            await _cancel(task)

    async def _is_any_worker_running(self) -> bool:
        for _ in range(PINGS):
            if await self.client.workers(PING_S, at_most=1):
                return True
        return False


async def _until_hang_up(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`; cancel it and raise `Refused` if the caller hangs up."""
    task, hang_up = asyncio.ensure_future(work), asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait([task, hang_up], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Refused(499, "caller_hung_up", "the caller closed the connection")
    finally:
        await _cancel(task)
        await _cancel(hang_up)


async def _hang_up(request: Request) -> None:
    """Return when the caller closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _cancel(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait until it has ended; its errors are of no interest then."""
    if task.done():
        return
    task.cancel()
    with suppress(asyncio.CancelledError, RerankError):
        await task


def trace_context(request: Request) -> dict[str, str]:
    """Return the headers of the current trace, or of the caller's, for the worker to continue.

    Malformed ones are left out, as the W3C recommends.
    """
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    if "traceparent" not in carrier:
        carrier = {
            name: value
            for name in ("traceparent", "tracestate")
            if (value := request.headers.get(name)) and len(value) <= names.MAX_TRACE_CHARS
        }
    if not TRACEPARENT.fullmatch(carrier.get("traceparent", "")):
        return {}
    return {name: carrier[name] for name in ("traceparent", "tracestate") if name in carrier}


async def _of(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


#: The parameter of a handler that needs the service.
ServiceParameter = Annotated[Service, Depends(_of)]
