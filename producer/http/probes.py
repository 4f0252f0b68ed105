"""`/healthz`, `/readyz` and `/metrics`, for whatever watches the service."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from contract.errors import RedisUnavailable, RerankError
from contract.jobs import QueueStatus
from producer.http.request_metrics import RequestMetrics
from producer.http.service import ServiceParameter
from producer.monitoring import prometheus

router = APIRouter(tags=["probes"])

#: How long workers may take to report whether they have their model.
READY_S = 1.0
#: That of Prometheus' text format.
MEDIA_TYPE = "text/plain; version=0.0.4"


# Some load balancers and monitors probe with HEAD.
@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Whether this process answers")
async def healthz() -> dict[str, str]:
    """Return that the process answers, whatever the state of Redis and of the workers."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Whether a request would be scored")
async def readyz(service: ServiceParameter) -> JSONResponse:
    """Answer 200 if Redis answers and a worker has loaded its model, else 503 with the reason."""
    try:
        # The first answer is enough if that worker is ready; otherwise another one may be.
        found = await service.client.readiness(READY_S, at_most=1)
        if found and not any(each.ready for each in found.values()):
            found = await service.client.readiness(READY_S)
    except RedisUnavailable as error:
        return JSONResponse({"status": "no_redis", "message": str(error)}, 503)
    workers: dict[str, Any] = {
        name: {"children": each.children, "ready": each.ready, "model": each.model}
        for name, each in found.items()
    }
    if any(each.ready for each in found.values()):
        return JSONResponse({"status": "ready", "workers": workers})
    message = "no worker has loaded its model yet" if found else "no worker answers"
    return JSONResponse({"status": "no_worker", "message": message, "workers": workers}, 503)


@router.get("/metrics", response_class=PlainTextResponse, summary="Metrics for Prometheus")
async def metrics(request: Request, service: ServiceParameter) -> Response:
    """Return what `rerankq metrics` prints of all workers, and the requests of this process."""
    try:
        found = await service.client.status()
    except RerankError as error:
        of_workers = _exposition(partial(_raise, error))
    else:
        of_workers = _exposition(lambda: found)
    own: RequestMetrics = request.app.state.metrics
    return PlainTextResponse(of_workers + own.exposition(), media_type=MEDIA_TYPE)


def _exposition(read: Callable[[], QueueStatus]) -> str:
    return prometheus.exposition(read, strict=False)


def _raise(error: RerankError) -> NoReturn:
    raise error
