"""Turn logits into rankings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from contract.jobs import RankedDocument, Ranking, Request


def sigmoid(logit: float) -> float:
    """Return the logistic function in double precision: 0 to 1, without overflow at either end."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1.0 + power)


def best_indexes(scores: Sequence[float], top_k: int | None) -> list[int]:
    """Return the indexes of the best scores, best first. Equal scores keep their order."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])[:top_k]


def rank(request: Request, scores: Sequence[float], truncated: int = 0) -> Ranking:
    """Rank the candidates of a request by `scores`: one logit per candidate, in their order.

    `truncated` is the number of candidates that were longer than the model reads.
    """
    documents = []
    for position, index in enumerate(best_indexes(scores, request.top_k), start=1):
        candidate = request.candidates[index]
        documents.append(
            RankedDocument(
                id=candidate.id,
                index=index,
                rank=position,
                score=scores[index],
                relevance=sigmoid(scores[index]),
                metadata=candidate.metadata,
            )
        )
    return Ranking(query_id=request.query_id, documents=tuple(documents), truncated=truncated)
