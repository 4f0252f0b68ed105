"""The reranking step of a retrieval pipeline, with its settings.

Fetch `vector_top_k` results from the retriever, then keep the best `reranker_top_k` of them:

    settings = PipelineSettings()
    results = retriever.search(query, limit=settings.vector_top_k)
    best = await rerank_step(query, results, settings)
"""

from __future__ import annotations

import os

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.models import DEFAULT_MODEL
from worker.inprocess.arguments import require_results
from worker.inprocess.reranker import CrossEncoderReranker
from worker.inprocess.results import QueryResult


class PipelineSettings(BaseSettings):
    """Settings from RERANKER_ENABLED, RERANKER_MODEL, RERANKER_TOP_K and VECTOR_TOP_K."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    reranker_enabled: bool = Field(
        True,
        description="Enables the reranking step. If `false`, the step returns the first results.",
    )
    reranker_model: str = Field(
        default_factory=lambda: os.environ.get("CROSS_ENCODER_MODEL") or DEFAULT_MODEL,
        description="The model of the step. The default is `CROSS_ENCODER_MODEL`, or its default.",
    )
    reranker_top_k: int = Field(
        10, ge=0, description="The number of results that the step returns."
    )
    vector_top_k: int = Field(
        100, ge=1, description="The number of results to fetch from the first stage."
    )


async def rerank_step(
    query: str, results: list[QueryResult], settings: PipelineSettings
) -> list[QueryResult]:
    """Return the best `reranker_top_k` results, or if disabled, the first ones in their order.

    Raises the same errors as `CrossEncoderReranker.rerank`. The caller decides whether to fall back
    to the first stage.
    """
    if not settings.reranker_enabled:
        require_results(results)
        return list(results[: settings.reranker_top_k])
    reranker = CrossEncoderReranker(settings.reranker_model)
    return await reranker.rerank_async(query, results, top_k=settings.reranker_top_k)
