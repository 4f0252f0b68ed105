"""The results that a retriever returns and the reranker sorts: chunks of documents with scores."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel


class Source(StrEnum):
    """The origin of a document."""

    PDF = "pdf"
    HTML = "html"
    MARKDOWN = "markdown"
    TEXT = "text"
    OTHER = "other"


class DocumentChunkMetadata(BaseModel):
    """The metadata of a chunk."""

    source: Source
    document_id: str | None = None


class DocumentChunkWithScore(BaseModel):
    """A chunk of a document, as a retriever returns it."""

    chunk_id: str | None = None
    text: str
    metadata: DocumentChunkMetadata | None = None


class QueryResult(BaseModel):
    """A chunk and its score: the retriever's before reranking, the model's logit afterwards."""

    chunk: DocumentChunkWithScore
    score: float | None = None
