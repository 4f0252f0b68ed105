"""The results that a retriever returns and the reranker sorts: chunks of documents with scores.

All of these types keep fields that they do not know, such as a `page_number` in the metadata.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Source(StrEnum):
    """The origin of a document: `Source("docx")` is `Source.DOCX`."""

    WEBSITE = "website"
    PDF = "pdf"
    WORD_DOCUMENT = "word"
    WORD = "word"
    DOCX = "docx"
    POWERPOINT = "ppt"
    PPT = "ppt"
    PPTX = "pptx"
    XLSX = "xlsx"
    CSV = "csv"
    HTML = "html"
    MARKDOWN = "markdown"
    TEXT = "text"
    TXT = "txt"
    OTHER = "other"


class DocumentChunkMetadata(BaseModel):
    """The metadata of a chunk."""

    model_config = ConfigDict(extra="allow")

    source: Source
    document_id: str | None = None


class DocumentChunkWithScore(BaseModel):
    """A chunk of a document, as a retriever returns it."""

    model_config = ConfigDict(extra="allow")

    chunk_id: str | None = None
    text: str
    metadata: DocumentChunkMetadata | None = None


class QueryResult(BaseModel):
    """A chunk and its score: the retriever's before reranking, the model's logit afterwards."""

    model_config = ConfigDict(extra="allow")

    chunk: DocumentChunkWithScore
    score: float | None = None
