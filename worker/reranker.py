"""An alias for `worker.inprocess`, kept for compatibility."""

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
