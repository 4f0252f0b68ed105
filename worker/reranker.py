"""The former place of `worker.inprocess`, which goes on working."""

from worker.inprocess.reranker import CrossEncoderReranker
from worker.inprocess.results import (
    DocumentChunkMetadata,
    DocumentChunkWithScore,
    QueryResult,
    Source,
)

__all__ = [
    "CrossEncoderReranker",
    "DocumentChunkMetadata",
    "DocumentChunkWithScore",
    "QueryResult",
    "Source",
]
