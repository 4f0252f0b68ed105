"""The FastAPI application: models load when it starts, and requests share one search service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import Field

from examples.search.collection import Collection
from examples.search.embeddings import Embedder, SentenceEmbedder
from examples.search.rerankers import InProcessReranker, QueueReranker
from examples.search.service import SearchService
from examples.search.settings import SearchSettings
from examples.search.types import SearchInput, SearchResponse
from examples.search.vector_store import MilvusStore, UnknownCollection, VectorStoreError
from worker.inprocess import PipelineSettings

logger = logging.getLogger(__name__)

#: The queries of the warm-up, of different lengths.
WARM_UP = ("warm-up", "a query of several words", "a longer query, as a person may type it here")
PAGE = Path(__file__).parent / "page"
#: The page loads nothing from other servers, and runs no script that a document contains.
POLICY = "default-src 'self'; img-src 'self' data:"


@asynccontextmanager
async def search_service(
    settings: SearchSettings, pipeline: PipelineSettings, embedder: Embedder
) -> AsyncIterator[SearchService]:
    """Yield a service whose models are loaded and whose collection is stored."""
    in_process = settings.rerank_with == "in-process"
    reranker = (InProcessReranker if in_process else QueueReranker)(pipeline.reranker_model)
    try:
        if pipeline.reranker_enabled:
            await reranker.warm_up()
        store = await asyncio.to_thread(_open_store, settings, embedder)
        try:
            service = SearchService(store, reranker, pipeline, settings.rerank_timeout_s)
            await _warm_up(service, Collection(settings.collection).id)
            yield service
        finally:
            await asyncio.to_thread(store.close)
    finally:
        await reranker.close()


async def _warm_up(service: SearchService, collection_id: str) -> None:
    """Search a few times, because that initializes more than the models, such as threads."""
    for query in WARM_UP:
        response = await service.search(SearchInput(query=query, collection_id=collection_id))
        if not response.reranked:
            break  # without a worker, each search would wait for the timeout


def _open_store(settings: SearchSettings, embedder: Embedder) -> MilvusStore:
    collection = Collection(settings.collection)
    store = MilvusStore(settings.milvus_uri, embedder, settings.milvus_token.get_secret_value())
    chunks = collection.chunks()

    def report(done: int) -> None:
        logger.info("Stored %d of %d chunks", done, len(chunks))

    try:
        store.index(collection.id, chunks, collection.fingerprint, report)
    except BaseException:
        store.close()
        raise
    return store


def create_app(
    settings: SearchSettings | None = None,
    pipeline: PipelineSettings | None = None,
    embedder: Embedder | None = None,
) -> FastAPI:
    """Return the application. Settings come from the environment by default."""
    used = settings or SearchSettings()
    collection = Collection(used.collection)
    queries = collection.queries()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        model = embedder or SentenceEmbedder(used.embedding_model)
        async with search_service(used, pipeline or PipelineSettings(), model) as service:
            app.state.service = service
            yield

    # FastAPI's pages of documentation would load scripts from another server.
    app = FastAPI(title="rerankq search", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.post("/search")
    async def search(search_input: SearchInput, service: Service) -> SearchResponse:
        """Search a collection."""
        return await service.search(search_input)

    @app.post("/searches")
    async def searches(
        inputs: Annotated[list[SearchInput], Field(max_length=100)], service: Service
    ) -> list[SearchResponse]:
        """Run several searches at the same time."""
        return await service.search_many(inputs)

    @app.get("/queries")
    async def sample_queries() -> dict[str, Any]:
        """Return sample queries, and the id of their collection."""
        return {"collection_id": collection.id, "queries": queries}

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    app.middleware("http")(_add_policy)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(UnknownCollection)(_not_found)
    app.exception_handler(VectorStoreError)(_unavailable)
    return app


def _service(request: Request) -> SearchService:
    service: SearchService = request.app.state.service
    return service


Service = Annotated[SearchService, Depends(_service)]


async def _add_policy(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers["Content-Security-Policy"] = POLICY
    return response


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    # Without the input, which may be text that cannot be encoded.
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    detail = [{name: fault[name] for name in ("type", "loc", "msg")} for fault in faults]
    return JSONResponse({"detail": detail}, status_code=422)


async def _not_found(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=404)


async def _unavailable(_: Request, error: Exception) -> JSONResponse:
    logger.error("The vector search failed", exc_info=error)
    return JSONResponse({"detail": "the vector search failed"}, status_code=503)
