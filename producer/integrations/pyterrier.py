"""A transformer for PyTerrier: pip install 'rerankq[pyterrier]'. It does not start Java."""

from __future__ import annotations

import pandas as pd
import pyterrier as pt

from contract.passages import Passages
from producer.client.blocking import RerankClient
from producer.client.options import PassagesOption
from producer.integrations import rankers


class RerankqTransformer(pt.Transformer):
    """Re-scores the documents of each query, for `pt.Experiment` and pipelines.

    `reranker` is a `RerankClient` (by default one with the settings of the environment) or a
    `worker.inprocess.CrossEncoderReranker`. `text_field` is the column with the documents' texts,
    `top_n` the number of documents to keep for each query (None: all), and `timeout_s` the maximum
    wait for a queued job. `passages` is the number of tokens of the passages into which long
    documents are cut, or a dict: see the clients.

    The input needs the columns `qid`, `query`, `docno` and `text_field`; otherwise PyTerrier's
    `InputValidationError` is raised. All columns are returned. `score` is the model's logit.
    """

    def __init__(
        self,
        reranker: rankers.Reranker | None = None,
        *,
        text_field: str = "text",
        top_n: int | None = None,
        timeout_s: float | None = 300.0,
        passages: PassagesOption = None,
    ) -> None:
        self._reranker = RerankClient() if reranker is None else reranker
        self._text_field = text_field
        self._top_n = top_n
        self._timeout_s = timeout_s
        self._passages = Passages.parse(passages)

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Return the documents with new scores and ranks. Raises a `contract.errors.RerankError`.

        The queries of the frame are queued together.
        """
        pt.validate.result_frame(inp, extra_columns=["query", self._text_field])
        groups = [group for _, group in inp.groupby("qid", sort=False)]
        queries = [(group["query"].iloc[0], group[self._text_field].tolist()) for group in groups]
        rankings = rankers.rank_many(
            self._reranker,
            queries,
            top_k=self._top_n,
            timeout_s=self._timeout_s,
            passages=self._passages,
        )
        ranked = [
            group.iloc[[each.index for each in best]].assign(score=[each.score for each in best])
            for group, best in zip(groups, rankings, strict=True)
        ]
        result = pd.concat(ranked) if ranked else inp.assign(score=0.0)
        return pt.model.add_ranks(result.reset_index(drop=True))
