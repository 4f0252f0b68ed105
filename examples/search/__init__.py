"""A search application: vector search in Milvus, then reranking, behind FastAPI.

`python -m examples.search` runs it over the sample collection. The guide is
docs/guides/search-app.md.
"""
