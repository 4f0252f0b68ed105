"""The adapters rank with the real libraries, through the queue and in the caller's process.

The libraries take seconds to import, so only the tests that need one import it: each process of
`pytest -n` imports all test modules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from contract.passages import Passages
from contract.settings import Settings
from producer.client.asynchronous import AsyncRerankClient
from producer.client.blocking import RerankClient
from producer.integrations import rankers
from producer.integrations.rankers import Reranker
from tests.stub_models import STUB
from worker.inprocess import CrossEncoderReranker

if TYPE_CHECKING:
    import pandas as pd
    from haystack import Document as HaystackDocument
    from langchain_core.documents import Document as LangChainDocument

QUERY = "how do tides work"
OPTIONS: dict[str, Any] = {"top_k": None, "timeout_s": 60.0, "passages": None}
TEXTS = ("about tides", "a recipe", "how tides work", "the moon and the tides", "")


@pytest.fixture(params=["queue", "in process"])
def reranker(request: pytest.FixtureRequest, stub_service: Settings) -> Iterator[Reranker]:
    if request.param == "in process":
        yield CrossEncoderReranker(STUB)
        return
    with RerankClient(stub_service) as client:
        yield client


@pytest.fixture
def unreachable() -> Iterator[RerankClient]:
    """Yield a client of a server that refuses connections."""
    with RerankClient(redis_url="redis://127.0.0.1:1/0") as client:
        yield client


@pytest.fixture
def expected(stub_service: Settings) -> list[tuple[int, float, float]]:
    """Index, logit and relevance of the texts, best first."""
    with RerankClient(stub_service) as client:
        ranked = client.rerank(QUERY, TEXTS).documents
    return [(each.index, each.score, each.relevance) for each in ranked]


def langchain_documents() -> list[LangChainDocument]:
    from langchain_core.documents import Document as LangChainDocument

    return [
        LangChainDocument(page_content=text, id=f"d{i}", metadata={"page": i})
        for i, text in enumerate(TEXTS)
    ]


def summary(documents: list[LangChainDocument]) -> list[Any]:
    return [
        (each.id, each.metadata["page"], each.metadata["relevance_score"]) for each in documents
    ]


def test_a_langchain_retriever_is_reranked(
    reranker: Reranker, expected: list[tuple[int, float, float]]
) -> None:
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import RunnableLambda

    from producer.integrations.langchain import RerankqCompressor

    class Retriever(BaseRetriever):
        """Returns all documents."""

        def _get_relevant_documents(self, query: str, **_: Any) -> list[LangChainDocument]:
            return langchain_documents()

    compressor = RerankqCompressor(reranker=reranker, top_n=3)
    chain = Retriever() | RunnableLambda(
        lambda documents: compressor.compress_documents(documents, QUERY)
    )
    best = summary(chain.invoke(QUERY))
    assert best == [(f"d{i}", i, pytest.approx(relevance)) for i, _, relevance in expected[:3]]
    assert "relevance_score" not in langchain_documents()[0].metadata


def test_langchain_awaits_what_it_would_otherwise_block_for(
    stub_service: Settings, reranker: Reranker
) -> None:
    from producer.integrations.langchain import RerankqCompressor

    async def both() -> list[list[LangChainDocument]]:
        async with AsyncRerankClient(stub_service) as client:
            compressors = (
                RerankqCompressor(reranker=reranker),
                RerankqCompressor(reranker=reranker, async_client=client),
            )
            documents = langchain_documents()
            return [await each.acompress_documents(documents, QUERY) for each in compressors]

    in_thread, awaited = map(summary, asyncio.run(both()))
    blocking = RerankqCompressor(reranker=reranker).compress_documents(langchain_documents(), QUERY)
    assert in_thread == awaited == summary(blocking)


def test_langchain_gets_its_own_kind_of_error(unreachable: RerankClient) -> None:
    from langchain_core.exceptions import LangChainException

    from producer.integrations.langchain import RerankqCompressor

    compressor = RerankqCompressor(reranker=unreachable)
    with pytest.raises(LangChainException, match=r"127\.0\.0\.1:1"):
        compressor.compress_documents(langchain_documents(), QUERY)
    with pytest.raises(LangChainException, match="query"):
        RerankqCompressor(reranker=CrossEncoderReranker(STUB)).compress_documents(
            langchain_documents(), " "
        )
    assert compressor.compress_documents([], QUERY) == []


def test_llama_index_nodes_are_reranked(
    reranker: Reranker, expected: list[tuple[int, float, float]]
) -> None:
    from llama_index.core.schema import NodeWithScore, TextNode

    from producer.integrations.llama_index import RerankqRerank

    nodes = [
        NodeWithScore(node=TextNode(text=text, id_=f"d{i}", metadata={"page": i}), score=0.5)
        for i, text in enumerate(TEXTS)
    ]
    postprocessor = RerankqRerank(reranker=reranker, top_n=3)
    best = postprocessor.postprocess_nodes(nodes, query_str=QUERY)
    awaited = asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str=QUERY))
    found = [(each.node.node_id, each.node.metadata, each.score) for each in best]
    assert found == [
        (f"d{i}", {"page": i}, pytest.approx(relevance)) for i, _, relevance in expected[:3]
    ]
    assert awaited == best
    assert nodes[0].score == 0.5


def test_llama_index_can_score_the_metadata_too(stub_service: Settings) -> None:
    from llama_index.core.schema import NodeWithScore, TextNode

    from producer.integrations.llama_index import RerankqRerank

    node = NodeWithScore(node=TextNode(text="a recipe", metadata={"title": QUERY}))
    plain, titled = (
        RerankqRerank(reranker=CrossEncoderReranker(STUB), with_metadata=with_metadata)
        .postprocess_nodes([node], query_str=QUERY)[0]
        .score
        for with_metadata in (False, True)
    )
    assert plain != titled


def test_llama_index_gets_its_own_kind_of_error(unreachable: RerankClient) -> None:
    from llama_index.core.schema import NodeWithScore, TextNode

    from producer.integrations.llama_index import RerankqRerank

    nodes = [NodeWithScore(node=TextNode(text="a text"))]
    postprocessor = RerankqRerank(reranker=unreachable)
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:1"):
        postprocessor.postprocess_nodes(nodes, query_str=QUERY)
    with pytest.raises(ValueError, match="needs a query"):
        postprocessor.postprocess_nodes(nodes)
    assert postprocessor.postprocess_nodes([], query_str=QUERY) == []


def haystack_documents() -> list[HaystackDocument]:
    from haystack import Document as HaystackDocument

    return [
        HaystackDocument(id=f"d{i}", content=text or None, meta={"page": i})
        for i, text in enumerate(TEXTS)
    ]


def test_a_haystack_pipeline_reranks(
    reranker: Reranker, expected: list[tuple[int, float, float]]
) -> None:
    from haystack import Pipeline

    from producer.integrations.haystack import RerankqRanker

    pipeline = Pipeline()
    pipeline.add_component("ranker", RerankqRanker(reranker, top_n=3))
    inputs: dict[str, Any] = {"query": QUERY, "documents": haystack_documents()}
    best = pipeline.run({"ranker": inputs})["ranker"]["documents"]
    assert [(each.id, each.meta, each.score) for each in best] == [
        (f"d{i}", {"page": i}, pytest.approx(relevance)) for i, _, relevance in expected[:3]
    ]
    assert len(pipeline.run({"ranker": {**inputs, "top_n": 1}})["ranker"]["documents"]) == 1


def test_haystack_gets_its_own_kind_of_error(unreachable: RerankClient) -> None:
    from haystack import Pipeline
    from haystack.core.errors import ComponentError, PipelineRuntimeError

    from producer.integrations.haystack import RerankqRanker

    ranker = RerankqRanker(unreachable)
    with pytest.raises(ComponentError, match=r"127\.0\.0\.1:1"):
        ranker.run(QUERY, haystack_documents())
    pipeline = Pipeline()
    pipeline.add_component("ranker", RerankqRanker(unreachable))
    with pytest.raises(PipelineRuntimeError, match=r"127\.0\.0\.1:1"):
        pipeline.run({"ranker": {"query": QUERY, "documents": haystack_documents()}})
    assert ranker.run(QUERY, []) == {"documents": []}


def test_a_haystack_pipeline_is_stored_with_a_ranker_of_the_environment(
    unreachable: RerankClient,
) -> None:
    from haystack import Pipeline
    from haystack.core.errors import SerializationError

    from producer.integrations.haystack import RerankqRanker

    pipeline = Pipeline()
    pipeline.add_component("ranker", RerankqRanker(top_n=7))
    loaded = Pipeline.loads(pipeline.dumps(), allowed_modules=["producer.integrations.haystack"])
    assert loaded.get_component("ranker").top_n == 7
    with pytest.raises(SerializationError):
        RerankqRanker(unreachable).to_dict()


def frame() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "qid": [qid for qid in ("q1", "q2") for _ in TEXTS],
            "query": [query for query in (QUERY, "a recipe") for _ in TEXTS],
            "docno": [f"d{i}" for _ in range(2) for i in range(len(TEXTS))],
            "text": TEXTS * 2,
            "score": 0.0,
            "rank": 0,
        }
    )


def test_a_pyterrier_experiment_reranks(
    reranker: Reranker, expected: list[tuple[int, float, float]]
) -> None:
    import pandas as pd
    import pyterrier as pt

    from producer.integrations.pyterrier import RerankqTransformer

    transformer = RerankqTransformer(reranker)
    ranked = transformer(frame())
    first = ranked[ranked.qid == "q1"].sort_values("rank")
    assert first.docno.tolist() == [f"d{i}" for i, _, _ in expected]
    assert first.score.tolist() == pytest.approx([score for _, score, _ in expected])
    assert first["rank"].tolist() == list(range(len(TEXTS)))
    qrels = pd.DataFrame({"qid": ["q1", "q2"], "docno": ["d2", "d1"], "label": [1, 1]})
    topics = frame()[["qid", "query"]].drop_duplicates()
    measures = pt.Experiment(
        [pt.Transformer.from_df(frame()) >> transformer], topics, qrels, ["recip_rank"]
    )
    assert 0 < measures["recip_rank"][0] <= 1


def test_pyterrier_keeps_the_best_of_each_query(reranker: Reranker) -> None:
    from producer.integrations.pyterrier import RerankqTransformer

    ranked = RerankqTransformer(reranker, top_n=2)(frame())
    assert ranked.groupby("qid").size().to_dict() == {"q1": 2, "q2": 2}
    assert RerankqTransformer(reranker)(frame().head(0)).empty


def test_pyterrier_names_a_missing_column(unreachable: RerankClient) -> None:
    import pyterrier as pt

    from producer.integrations.pyterrier import RerankqTransformer

    with pytest.raises(pt.validate.InputValidationError, match="text"):
        RerankqTransformer(unreachable)(frame().drop(columns=["text"]))


def test_all_adapters_cut_long_documents_into_passages(
    stub_service: Settings, reranker: Reranker
) -> None:
    import pandas as pd
    from haystack import Document as HaystackDocument
    from langchain_core.documents import Document as LangChainDocument
    from llama_index.core.schema import NodeWithScore, TextNode

    from producer.integrations.haystack import RerankqRanker
    from producer.integrations.langchain import RerankqCompressor
    from producer.integrations.llama_index import RerankqRerank
    from producer.integrations.pyterrier import RerankqTransformer

    long = f"{'nothing of interest ' * 400}{QUERY}"
    texts = ("how tides", long)
    # Without passages, the end of the long document is not read
    assert [each.index for each in rankers.rank(reranker, QUERY, texts, **OPTIONS)] == [0, 1]

    with RerankClient(stub_service) as client:
        best = client.rerank(QUERY, texts, passages=16).documents[0]
    passage = best.passage
    assert passage is not None
    place, relevance = [passage.begin, passage.end], pytest.approx(best.relevance)

    documents = [LangChainDocument(page_content=text, metadata={"page": 1}) for text in texts]
    (first, _) = RerankqCompressor(reranker=reranker, passages=16).compress_documents(
        documents, QUERY
    )
    assert first.metadata == {"page": 1, "relevance_score": relevance, "relevance_passage": place}

    nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
    found = RerankqRerank(reranker=reranker, passages=16).postprocess_nodes(nodes, query_str=QUERY)
    assert (found[0].node.get_content(), found[0].score) == (long, relevance)

    ranked = RerankqRanker(reranker, passages=16).run(
        QUERY, [HaystackDocument(content=text, meta={"page": 1}) for text in texts]
    )["documents"]
    assert ranked[0].meta == {"page": 1, "relevance_passage": place}
    assert ranked[0].score == relevance

    rows = {"qid": "1", "query": QUERY, "docno": ["a", "b"], "text": texts, "score": 0.0, "rank": 0}
    scored = RerankqTransformer(reranker, passages={"tokens": 16})(pd.DataFrame(rows))
    assert scored.set_index("docno").score["b"] == pytest.approx(best.score)


def test_adapters_refuse_passages_that_make_no_sense(unreachable: RerankClient) -> None:
    from haystack import Pipeline

    from producer.integrations.haystack import RerankqRanker
    from producer.integrations.langchain import RerankqCompressor
    from producer.integrations.llama_index import RerankqRerank
    from producer.integrations.pyterrier import RerankqTransformer

    for make in (
        lambda: RerankqCompressor(reranker=unreachable, passages=1),
        lambda: RerankqRerank(reranker=unreachable, passages=1),
        lambda: RerankqRanker(unreachable, passages=1),
        lambda: RerankqTransformer(unreachable, passages=1),
    ):
        with pytest.raises(ValueError, match="passages: tokens: must be at least 8"):
            make()
    # And a stored pipeline has them
    pipeline = Pipeline()
    pipeline.add_component("ranker", RerankqRanker(passages={"tokens": 64, "stride": 60}))
    loaded = Pipeline.loads(pipeline.dumps(), allowed_modules=["producer.integrations.haystack"])
    assert loaded.get_component("ranker").passages == Passages(tokens=64, stride=60)
