"""What a retriever gives and the reranker sorts: chunks of documents with scores."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel


class Source(StrEnum):
    """Where a document came from."""

    PDF = "pdf"
    HTML = "html"
    MARKDOWN = "markdown"
    TEXT = "text"
    OTHER = "other"


class DocumentChunkMetadata(BaseModel):
    """What is known of a chunk besides its text."""

    source: Source
    document_id: str | None = None


class DocumentChunkWithScore(BaseModel):
    """A piece of a document, as a retriever gives it."""

    chunk_id: str | None = None
    text: str
    metadata: DocumentChunkMetadata | None = None


class QueryResult(BaseModel):
    """A chunk and its score: the retriever's before reranking, the model's logit after."""

    chunk: DocumentChunkWithScore
    score: float | None = None
