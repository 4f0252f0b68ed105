"""Serve reranking over HTTP, in the shapes of APIs that existing clients speak."""
