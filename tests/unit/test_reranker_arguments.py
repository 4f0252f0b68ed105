"""Arguments of the wrong type are errors that name the fault and its place; fields are kept."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from contract.errors import InvalidInput, ModelUnavailable
from tests.stub_models import ABSENT
from worker.inprocess import (
    CrossEncoderReranker,
    DocumentChunkMetadata,
    DocumentChunkWithScore,
    PipelineSettings,
    QueryResult,
    Source,
    rerank_step,
)

QUERY = "merge pdf files"


def results(*texts: str) -> list[QueryResult]:
    return [QueryResult(chunk=DocumentChunkWithScore(text=text)) for text in texts]


@pytest.fixture(scope="module")
def reranker() -> CrossEncoderReranker:
    return CrossEncoderReranker("stub")


def with_chunk(chunk: Any) -> QueryResult:
    return QueryResult.model_construct(chunk=chunk)


def with_text(text: Any) -> QueryResult:
    return with_chunk(DocumentChunkWithScore.model_construct(text=text))


QUERIES = [
    (None, "query is None: it must be a string"),
    (b"merge", "query is of type bytes: it must be a string"),
    (7, "query is of type int: it must be a string"),
    (["merge", "pdf"], "query is of type list: it must be a string"),
]
COLLECTIONS = [
    (None, "results is None: it must be a list"),
    (iter(results("a")), "results is of type list_iterator: it must be a list; list(...)"),
    ((each for each in results("a")), "results is of type generator: it must be a list; list("),
    ({"chunk": {"text": "a"}}, "results is of type dict: it must be a list"),
    ("a", "results is of type str: it must be a list"),
    (results("a")[0], "results is of type QueryResult: it must be a list"),
    (7, "results is of type int: it must be a list"),
]
ITEMS = [
    (None, "results[1] is None: it must be a QueryResult"),
    ({"chunk": {"text": "a"}}, "results[1] is of type dict: it must be a QueryResult; QueryRes"),
    ("a document", "results[1] is of type str: it must be a QueryResult"),
    (results("a"), "results[1] is of type list: it must be a QueryResult"),
    (with_chunk(None), "results[1].chunk is None: it must be a DocumentChunkWithScore"),
    (with_chunk({"text": "a"}), "results[1].chunk is of type dict: it must be a Document"),
    (with_chunk("a"), "results[1].chunk is of type str: it must be a DocumentChunkWithScore"),
    (DocumentChunkWithScore(text="a"), "results[1].chunk is None: it must be a DocumentChunk"),
    (with_text(None), "results[1].chunk.text is None: it must be a string"),
    (with_text(b"a"), "results[1].chunk.text is of type bytes: it must be a string"),
    (with_text(["a"]), "results[1].chunk.text is of type list: it must be a string"),
]
NUMBERS = [
    ("10", "top_k is '10': it must be a whole number, or None for all"),
    (2.5, "top_k is 2.5: it must be a whole number"),
    (2.0, "top_k is 2.0: it must be a whole number"),
    (float("nan"), "top_k is nan: it must be a whole number"),
    (True, "top_k is True: it must be a whole number"),
    (False, "top_k is False: it must be a whole number"),
    ([], "top_k is []: it must be a whole number"),
    (-1, "top_k is -1: it must be 0 or more, or None for all"),
]


class TestArguments:
    @pytest.mark.parametrize("given", [results("a", "b"), []])
    @pytest.mark.parametrize(("query", "message"), QUERIES)
    def test_a_query_that_is_no_string(
        self, reranker: CrossEncoderReranker, query: Any, message: str, given: list[QueryResult]
    ) -> None:
        assert refusal(reranker, query, given).startswith(message)

    @pytest.mark.parametrize("top_k", [None, 0, 5])
    @pytest.mark.parametrize(("given", "message"), COLLECTIONS)
    def test_results_that_are_no_list(
        self, reranker: CrossEncoderReranker, given: Any, message: str, top_k: int | None
    ) -> None:
        assert refusal(reranker, QUERY, given, top_k).startswith(message)

    @pytest.mark.parametrize(("item", "message"), ITEMS)
    def test_a_result_without_a_text_is_named_by_its_place(
        self, reranker: CrossEncoderReranker, item: Any, message: str
    ) -> None:
        assert refusal(reranker, QUERY, [*results("a"), item, None]).startswith(message)

    @pytest.mark.parametrize("given", [results("a", "b"), []])
    @pytest.mark.parametrize(("top_k", "message"), NUMBERS)
    def test_a_top_k_that_is_no_number_of_results(
        self, reranker: CrossEncoderReranker, top_k: Any, message: str, given: list[QueryResult]
    ) -> None:
        assert refusal(reranker, QUERY, given, top_k).startswith(message)

    def test_wrong_arguments_load_no_model(self) -> None:
        absent = CrossEncoderReranker(ABSENT)
        assert refusal(absent, None, results("a")) == "query is None: it must be a string"

    @pytest.mark.parametrize(("given", "message"), COLLECTIONS)
    def test_the_pipeline_s_step_refuses_the_same_when_it_is_switched_off(
        self, given: Any, message: str
    ) -> None:
        settings = PipelineSettings(reranker_enabled=False)
        with pytest.raises(InvalidInput) as caught:
            asyncio.run(rerank_step(QUERY, given, settings))
        assert str(caught.value).startswith(message)

    def test_a_tuple_and_numpy_s_numbers_are_accepted(self, reranker: CrossEncoderReranker) -> None:
        given: Any = tuple(results("merge pdf files", "a clock"))
        for top_k in (np.int64(1), np.uint8(1)):
            (best,) = reranker.rerank(QUERY, given, top_k=int(top_k))
            assert reranker.rerank(QUERY, given, top_k=top_k) == [best]  # type: ignore[arg-type]

    def test_a_program_s_own_types_are_accepted(self, reranker: CrossEncoderReranker) -> None:
        class Passage(BaseModel):
            text: str | None

        class Hit(BaseModel):
            chunk: Passage | None = None
            score: float | None = None

        given: list[Any] = [Hit(chunk=Passage(text="a clock")), Hit(chunk=Passage(text=QUERY))]
        best: Any = reranker.rerank(QUERY, given, top_k=1)[0]
        assert isinstance(best, Hit)
        assert best.chunk == Passage(text=QUERY)

        assert "results[0].chunk is None" in refusal(reranker, QUERY, [Hit()])
        given = [Hit(chunk=Passage(text=None))]
        assert "results[0].chunk.text is None" in refusal(reranker, QUERY, given)


def refusal(reranker: CrossEncoderReranker, query: Any, given: Any, top_k: Any = None) -> str:
    """Return the message with which both calls refuse the arguments."""
    with pytest.raises(InvalidInput) as caught:
        reranker.rerank(query, given, top_k)
    with pytest.raises(ValueError, match=r".+") as again:
        asyncio.run(reranker.rerank_async(query, given, top_k))
    assert str(again.value) == str(caught.value)
    return str(caught.value)


class TestUnknownFields:
    def test_fields_that_the_types_do_not_know_come_back(
        self, reranker: CrossEncoderReranker
    ) -> None:
        given = {
            "chunk": {
                "chunk_id": "c1",
                "text": "merge pdf files",
                "metadata": {
                    "source": "pdf",
                    "document_id": "manual",
                    "page_number": 7,
                    "child_chunk_ids": ["c2", "c3"],
                },
                "document_id": "manual",
                "vectors": [0.5, 0.25],
            },
            "embeddings": [0.5, 0.25],
        }
        (reranked,) = reranker.rerank(QUERY, [QueryResult.model_validate(given)])
        dumped = reranked.model_dump(mode="json")
        assert isinstance(dumped.pop("score"), float)
        assert dumped == given

    def test_they_can_be_read_as_attributes(self) -> None:
        metadata = DocumentChunkMetadata(source=Source.PDF, page_number=7)
        assert metadata.page_number == 7  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            _ = metadata.chunk_number  # type: ignore[attr-defined]

    def test_they_survive_json(self) -> None:
        metadata = DocumentChunkMetadata(source=Source.DOCX, page_number=7)
        before = QueryResult(chunk=DocumentChunkWithScore(text="a", metadata=metadata), rank=1)
        assert QueryResult.model_validate_json(before.model_dump_json()) == before

    def test_what_comes_back_shares_none_of_them_with_the_input(
        self, reranker: CrossEncoderReranker
    ) -> None:
        given = QueryResult(chunk=DocumentChunkWithScore(text="a", tags=["x"]))
        (reranked,) = reranker.rerank(QUERY, [given])
        reranked.chunk.tags.append("y")  # type: ignore[attr-defined]
        assert given.chunk.tags == ["x"]  # type: ignore[attr-defined]


class TestSources:
    @pytest.mark.parametrize(
        "name", ["website", "pdf", "word", "docx", "ppt", "pptx", "xlsx", "html", "other"]
    )
    def test_each_source_is_parsed_and_written_as_its_name(self, name: str) -> None:
        metadata = DocumentChunkMetadata.model_validate({"source": name})
        assert metadata.source is Source(name)
        assert metadata.model_dump(mode="json")["source"] == name

    @pytest.mark.parametrize(("name", "alias"), [("WORD_DOCUMENT", "WORD"), ("POWERPOINT", "PPT")])
    def test_some_have_two_names(self, name: str, alias: str) -> None:
        assert Source[name] is Source[alias]

    @pytest.mark.parametrize("source", ["papyrus", "", None, 7, "PDF"])
    def test_others_are_refused_with_the_field_s_name(self, source: Any) -> None:
        with pytest.raises(ValidationError, match="source"):
            DocumentChunkMetadata.model_validate({"source": source})

    @pytest.mark.parametrize("chunk", [None, "a document", 7, [], {}, {"text": None}])
    def test_a_result_without_a_chunk_is_a_value_error_when_it_is_made(self, chunk: Any) -> None:
        with pytest.raises(ValueError, match="chunk"):
            QueryResult(chunk=chunk)


class TestWarm:
    def test_warm_loads_the_model_at_once(self) -> None:
        with pytest.raises(ModelUnavailable, match="absent"):
            CrossEncoderReranker(ABSENT, warm=True)
        assert CrossEncoderReranker("stub", warm=True).rerank(QUERY, results("a")) != []

    def test_without_it_the_first_use_loads_the_model(self) -> None:
        late = CrossEncoderReranker(ABSENT, warm=False)
        with pytest.raises(ModelUnavailable, match="absent"):
            late.rerank(QUERY, results("a"))

    def test_settings_of_redis_are_not_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RERANKQ_REDIS_URL", "no url at all")
        monkeypatch.setenv("RERANKQ_NAMESPACE", "not a name")
        monkeypatch.setenv("RERANKQ_RESULT_TTL_S", "soon")
        assert CrossEncoderReranker().model_name
        assert CrossEncoderReranker("stub", warm=True).rerank(QUERY, results("a")) != []
