"""The application: routes, the client that they share, and what wraps them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from producer.client.asynchronous import AsyncRerankClient
from producer.http import batches, cohere, errors, jobs, probes, tei
from producer.http.admission import Admission
from producer.http.request_metrics import RequestMetrics
from producer.http.service import Service
from producer.http.settings import HttpSettings

DESCRIPTION = """Rerank documents with the cross-encoder of rerankq's workers.

`/v1/rerank` and `/v2/rerank` accept the requests of clients for Cohere and Jina, and `/rerank`
those of clients for text-embeddings-inference. If tokens are set, each request needs the header
`Authorization: Bearer TOKEN`.
"""


def create_app(settings: HttpSettings) -> FastAPI:
    """Return the application; its client is opened and closed with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncRerankClient(settings) as client:
            app.state.service = Service(settings, client)
            yield

    app = FastAPI(
        title="rerankq",
        version=version("rerankq"),
        description=DESCRIPTION,
        lifespan=lifespan,
        # A redirection would lead to the host that the caller names.
        redirect_slashes=False,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    for each in (cohere, tei, jobs, batches, probes):
        app.include_router(each.router)
    errors.install(app)
    app.state.metrics = RequestMetrics()
    app.add_middleware(Admission, settings=settings, metrics=app.state.metrics)
    return app
