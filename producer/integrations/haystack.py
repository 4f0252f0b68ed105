"""A ranker component for Haystack: pip install 'rerankq[haystack]'."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from haystack import Document, component, default_to_dict
from haystack.core.errors import ComponentError, SerializationError

from contract.errors import RerankError
from contract.passages import Passages
from producer.client.blocking import RerankClient
from producer.client.options import PassagesOption
from producer.integrations import rankers


@component
class RerankqRanker:
    """Sorts documents by their relevance to the query, and keeps the best.

    `reranker` is a `RerankClient` or a `worker.inprocess.CrossEncoderReranker`. Without one, the
    component makes a `RerankClient` with the settings of the environment on its first run. Only
    such a component can be stored as YAML.

    `top_n` is the number of documents to keep (None: all), and `timeout_s` the maximum wait for a
    queued job. `passages` is the number of tokens of the passages into which long documents are
    cut, or a dict: see the clients. The metadata of a returned document then has
    `relevance_passage`, the place of its best passage. Its score is its relevance, 0 to 1. Errors
    are raised as `ComponentError`.
    """

    def __init__(
        self,
        reranker: rankers.Reranker | None = None,
        top_n: int | None = 10,
        timeout_s: float | None = 300.0,
        passages: PassagesOption = None,
    ) -> None:
        self._reranker = reranker
        self._is_default = reranker is None
        self.top_n = top_n
        self.timeout_s = timeout_s
        self.passages = Passages.parse(passages)

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, documents: list[Document], top_n: int | None = None
    ) -> dict[str, list[Document]]:
        """Return the best documents, best first; `top_n` replaces the component's.

        Documents without text are scored as empty texts. Raises `ComponentError`.
        """
        texts = [document.content or "" for document in documents]
        try:
            if self._reranker is None:
                self._reranker = RerankClient()
            ranked = rankers.rank(
                self._reranker,
                query,
                texts,
                top_k=self.top_n if top_n is None else top_n,
                timeout_s=self.timeout_s,
                passages=self.passages,
            )
        except RerankError as error:
            raise ComponentError(str(error)) from error
        return {
            "documents": [
                replace(document, score=each.relevance, meta={**document.meta, **places})
                for each in ranked
                for document, places in [(documents[each.index], rankers.passage_places(each))]
            ]
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the component's settings. Raises `SerializationError` if it has a reranker."""
        if not self._is_default:
            raise SerializationError("a RerankqRanker with its own reranker cannot be serialized")
        stored: dict[str, Any] = default_to_dict(
            self,
            top_n=self.top_n,
            timeout_s=self.timeout_s,
            passages=self.passages and self.passages.model_dump(),
        )
        return stored
