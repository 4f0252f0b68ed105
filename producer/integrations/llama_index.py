"""A node postprocessor for LlamaIndex: pip install 'rerankq[llama-index]'."""

from __future__ import annotations

from typing import Any

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from pydantic import Field

from contract.errors import RerankError
from producer.client.blocking import RerankClient
from producer.integrations import rankers


class RerankqRerank(BaseNodePostprocessor):
    """Keeps the nodes that are most relevant to the query, best first.

    `reranker` is a `RerankClient` (the default, with the settings of the environment) or a
    `worker.inprocess.CrossEncoderReranker`. A node is scored by its text, and by the metadata that
    it shows to embedding models if `with_metadata` is true.

    The score of a returned node is its relevance, 0 to 1. Errors are raised as `ValueError`, as
    LlamaIndex does.
    """

    reranker: Any = Field(default_factory=RerankClient, exclude=True)
    #: The number of nodes to keep; None keeps all.
    top_n: int | None = Field(10, ge=1)
    #: The maximum wait for a queued job, in seconds; None is no limit.
    timeout_s: float | None = 300.0
    #: The tokens of the passages into which long nodes are cut, or a dict: see the clients.
    passages: rankers.PassagesField = None
    with_metadata: bool = False

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex stores this class."""
        return "RerankqRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("reranking needs a query: pass query_bundle or query_str")
        mode = MetadataMode.EMBED if self.with_metadata else MetadataMode.NONE
        texts = [node.node.get_content(metadata_mode=mode) for node in nodes]
        try:
            ranked = rankers.rank(
                self.reranker,
                query_bundle.query_str,
                texts,
                top_k=self.top_n,
                timeout_s=self.timeout_s,
                passages=self.passages,
            )
        except RerankError as error:
            raise ValueError(str(error)) from error
        return [NodeWithScore(node=nodes[each.index].node, score=each.relevance) for each in ranked]
