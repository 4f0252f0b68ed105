"""The reranker in the caller's own process, without a queue."""
