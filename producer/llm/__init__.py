"""Rerank with a large language model behind an OpenAI-compatible endpoint.

    from producer.llm import LLMReranker

    reranker = LLMReranker("gpt-4o-mini")
    best = await reranker.rerank_async("a query", results, top_k=10)

This reranker is here to be measured against a cross-encoder, and to migrate from: each document
costs one call of the model. It needs the extra `llm`.
"""

from producer.llm.reranker import LLMReranker

__all__ = ["LLMReranker"]
