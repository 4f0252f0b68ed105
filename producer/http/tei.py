"""`POST /rerank`, in the shape of text-embeddings-inference."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from contract import jobs
from contract.printable import counted
from producer.http.error_schemas import TeiError, responses
from producer.http.errors import Refused
from producer.http.schemas import DOCUMENTS, QUERY, Answer, Body
from producer.http.service import ServiceParameter

router = APIRouter(
    tags=["text-embeddings-inference"],
    responses=responses(TeiError, 400, 401, 409, 413, 422, 429, 500, 503, 504),
)


class TeiBody(Body):
    """A query with its texts."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": QUERY, "texts": DOCUMENTS}]}
    )

    query: jobs.Query
    texts: Annotated[list[str], Field(min_length=1)]
    raw_scores: bool = Field(False, description="Return logits, instead of values from 0 to 1.")
    return_text: bool = False
    truncate: bool | None = Field(
        None,
        description="If false, a text that is too long is an error; otherwise it is truncated.",
    )
    truncation_direction: Literal["Right", "right"] = Field(
        "Right", description="Texts are truncated at the end."
    )


class Rank(Answer):
    """A text with its score."""

    index: int
    score: float
    text: str | None = None


@router.post("/rerank", response_model_exclude_none=True)
async def rerank(request: Request, body: TeiBody, service: ServiceParameter) -> list[Rank]:
    """Score texts against a query; the answer has the best first."""
    result = await service.rerank(request, body.query, body.texts)
    (ranking,) = result.rankings
    if body.truncate is False and ranking.truncated:
        raise Refused(
            422,
            "too_long",
            f"texts: with the query, {counted(ranking.truncated, 'text')} exceeded"
            f" {result.provenance.max_length} tokens: shorten the texts, or send truncate: true",
        )
    return [
        Rank(
            index=each.index,
            score=each.score if body.raw_scores else each.relevance,
            text=body.texts[each.index] if body.return_text else None,
        )
        for each in ranking.documents
    ]
