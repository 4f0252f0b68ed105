"""A reranker in the caller's own process, without a queue.

    from worker.inprocess import CrossEncoderReranker, DocumentChunkWithScore, QueryResult

    reranker = CrossEncoderReranker()
    best = reranker.rerank("a query", results, top_k=10)
    best = await reranker.rerank_async("a query", results, top_k=10)

Names are imported on first use, because the worker's settings extend those of this package, also on
machines where no model can be loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.inprocess.models import ProcessModels
    from worker.inprocess.pipeline import PipelineSettings, rerank_step
    from worker.inprocess.reranker import CrossEncoderReranker
    from worker.inprocess.results import (
        DocumentChunkMetadata,
        DocumentChunkWithScore,
        QueryResult,
        Source,
    )
    from worker.inprocess.settings import ModelSettings

_HOMES = {
    "CrossEncoderReranker": "worker.inprocess.reranker",
    "DocumentChunkMetadata": "worker.inprocess.results",
    "DocumentChunkWithScore": "worker.inprocess.results",
    "ModelSettings": "worker.inprocess.settings",
    "PipelineSettings": "worker.inprocess.pipeline",
    "ProcessModels": "worker.inprocess.models",
    "QueryResult": "worker.inprocess.results",
    "Source": "worker.inprocess.results",
    "rerank_step": "worker.inprocess.pipeline",
}

__all__ = [
    "CrossEncoderReranker",
    "DocumentChunkMetadata",
    "DocumentChunkWithScore",
    "ModelSettings",
    "PipelineSettings",
    "ProcessModels",
    "QueryResult",
    "Source",
    "rerank_step",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
