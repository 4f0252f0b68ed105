"""The input and the output of a search."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from worker.inprocess import QueryResult


class Hit(QueryResult):
    """A result with its place in the vector search. Its `score` is that of the last stage."""

    vector_rank: int
    vector_score: float


class SearchInput(BaseModel):
    """A query, and the collection to search."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(max_length=1000)
    collection_id: str = "packages"
    compare: bool = Field(False, description="Also return the order of the vector search.")

    @field_validator("query")
    @classmethod
    def _check_query(cls, query: str) -> str:
        if not query.strip():
            raise ValueError("the query is blank")
        # A tokenizer takes no half of a surrogate pair, which JSON can contain.
        query.encode()
        return query


class SearchResponse(BaseModel):
    """The results, and whether they were reranked."""

    results: list[Hit]
    reranked: bool
    #: Why the results are in the order of the vector search.
    reason: str | None = None
    #: The model that scored the results.
    model: str | None = None
    #: The first results of the vector search, if the input asks for them.
    vector_results: list[Hit] | None = None
    vector_search_s: float
    reranking_s: float
