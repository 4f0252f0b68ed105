"""`POST /v1/rerank` and `/v2/rerank`, in the shape of Cohere's and Jina's APIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field, JsonValue

from contract import jobs
from contract.printable import counted
from producer.http.error_schemas import RerankError, responses
from producer.http.schemas import (
    DOCUMENTS,
    QUERY,
    Answer,
    Body,
    DocumentField,
    PassagesField,
    text_of,
)
from producer.http.service import ServiceParameter

router = APIRouter(
    tags=["rerank"],
    responses=responses(RerankError, 400, 401, 409, 413, 422, 429, 500, 503, 504),
)


class RerankBody(Body):
    """A query with its documents."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "default", "query": QUERY, "documents": DOCUMENTS, "top_n": 1}]
        }
    )

    query: jobs.Query
    documents: Annotated[list[DocumentField], Field(min_length=1)]
    model: str | None = Field(
        None, description="A model that jobs may request; `default` is the workers' model."
    )
    top_n: int | None = Field(None, ge=1, description="The number of best documents to return.")
    return_documents: bool = False
    max_tokens_per_doc: int | None = Field(
        None,
        ge=1,
        description="Has no effect below the model's maximum length, to which documents are"
        " truncated.",
    )
    priority: int | None = Field(None, ge=0, description="0 (first) to 9 (last).")
    passages: PassagesField = Field(
        None,
        description="Cuts long documents into passages, instead of truncating them: the number of"
        ' tokens, or `{"tokens", "stride", "aggregate"}`.',
    )
    max_chunks_per_doc: int | None = Field(None, description="Has no effect.")
    truncation: bool | None = Field(
        None,
        description="Has no effect: long documents are truncated, or cut into `passages`.",
    )
    user: str | None = Field(None, description="Has no effect.")

    @property
    def texts(self) -> list[str]:
        """The texts to score."""
        return [text_of(each) for each in self.documents]


class PassageAnswer(Answer):
    """The place of a passage in its document."""

    #: Its number among the passages of the document, from 0.
    index: int
    #: In characters of the text.
    begin: int
    end: int
    #: The number of passages of the document.
    count: int


class Result(Answer):
    """A document with its score."""

    index: int
    #: From 0 to 1: the sigmoid of the model's logit.
    relevance_score: float
    #: The passage that the score is from, if documents were cut into passages.
    passage: PassageAnswer | None = None
    document: dict[str, Any] | None = None


class BilledUnits(Answer):
    """The units that a hosted service would charge for; here they count queries."""

    search_units: int


class Tokens(Answer):
    """Tokens that the model read."""

    input_tokens: int
    output_tokens: int = 0


class ApiVersion(Answer):
    """The version of the API."""

    version: str


class Meta(Answer):
    """The cost of the scoring, in Cohere's terms."""

    api_version: ApiVersion
    billed_units: BilledUnits
    tokens: Tokens
    warnings: list[str] | None = None


class Usage(Answer):
    """The cost of the scoring, in Jina's terms."""

    total_tokens: int
    prompt_tokens: int
    pairs: int
    truncated: int


EXAMPLE: JsonValue = {
    "id": "0a34a81c-5b25-4a85-9c0e-3f3f7bfb6f6f",
    "model": "cross-encoder/ms-marco-MiniLM-L-6-v2",
    "results": [{"index": 0, "relevance_score": 0.98}],
    "meta": {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": 55, "output_tokens": 0},
    },
    "usage": {"total_tokens": 55, "prompt_tokens": 55, "pairs": 2, "truncated": 0},
}


class RerankAnswer(Answer):
    """The ranked documents, best first."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    #: The model that computed the scores.
    model: str
    results: list[Result]
    meta: Meta
    usage: Usage


@router.post("/v2/rerank", response_model_exclude_none=True, summary="Rerank (v2)")
async def rerank_v2(request: Request, body: RerankBody, service: ServiceParameter) -> RerankAnswer:
    """Score documents against a query, in the shape of Cohere's v2 API."""
    return await _rerank(request, body, service, "2")


@router.post("/v1/rerank", response_model_exclude_none=True, summary="Rerank (v1)")
async def rerank_v1(request: Request, body: RerankBody, service: ServiceParameter) -> RerankAnswer:
    """Score documents against a query, in the shape of Cohere's v1 API, and of Jina's."""
    return await _rerank(request, body, service, "1")


async def _rerank(
    request: Request, body: RerankBody, service: ServiceParameter, version: str
) -> RerankAnswer:
    options: dict[str, Any] = {}
    if body.priority is not None:
        options["priority"] = min(body.priority, 9)
    result = await service.rerank(
        request,
        body.query,
        body.texts,
        top_k=body.top_n,
        model=service.model(body.model),
        passages=body.passages,
        **options,
    )
    documents = body.documents if body.return_documents else None
    return answer(result, result.rankings[0], documents, version, body.max_tokens_per_doc)


def answer(
    result: jobs.JobResult,
    ranking: jobs.Ranking,
    documents: Sequence[Any] | Mapping[int, Any] | None,
    version: str,
    max_tokens_per_doc: int | None = None,
) -> RerankAnswer:
    """Return the answer for one ranking of a result; with the documents, if they are given."""
    made = result.provenance
    return RerankAnswer(
        id=result.job_id,
        model=made.model,
        results=[
            Result(
                index=each.index,
                relevance_score=each.relevance,
                passage=None if each.passage is None else PassageAnswer(**dict(each.passage)),
                document=returned(documents[each.index]) if documents else None,
            )
            for each in ranking.documents
        ],
        meta=Meta(
            api_version=ApiVersion(version=version),
            billed_units=BilledUnits(search_units=1),
            tokens=Tokens(input_tokens=made.tokens),
            warnings=_warnings(made, ranking, max_tokens_per_doc) or None,
        ),
        usage=Usage(
            total_tokens=made.tokens,
            prompt_tokens=made.tokens,
            pairs=made.pairs,
            truncated=ranking.truncated,
        ),
    )


def returned(document: str | dict[str, Any]) -> dict[str, Any]:
    """Return a document as answers have it."""
    return {"text": document} if isinstance(document, str) else document


def _warnings(
    made: jobs.Provenance, ranking: jobs.Ranking, max_tokens_per_doc: int | None
) -> list[str]:
    found = []
    if made.downgraded:
        found.append(f"scored by {made.model} instead of {made.model_requested}: {made.reason}")
    if ranking.truncated:
        documents = counted(ranking.truncated, "document")
        lost = f", about {counted(ranking.lost_tokens, 'token')}" if ranking.lost_tokens else ""
        what = f"truncated to {made.max_length} tokens" if made.passages is None else "not read"
        found.append(f"{what}: {documents}{lost}")
    if ranking.shortened:
        found.append(f"shorter passages, because of the query: {ranking.shortened} documents")
    if max_tokens_per_doc is not None and max_tokens_per_doc < made.max_length:
        found.append(f"max_tokens_per_doc has no effect below the model's {made.max_length} tokens")
    return found
