"""Turn logits into rankings."""

from __future__ import annotations

from collections.abc import Sequence

from contract.jobs import RankedDocument, Ranking, Request, relevance
from contract.passages import Passage, PassageColumns


def best_indexes(scores: Sequence[float], top_k: int | None) -> list[int]:
    """Return the indexes of the best scores, best first. Equal scores keep their order."""
    negated = [-score for score in scores]
    return sorted(range(len(scores)), key=negated.__getitem__)[:top_k]


def rank(
    request: Request,
    scores: Sequence[float],
    truncated: int = 0,
    passages: PassageColumns | None = None,
) -> Ranking:
    """Rank the candidates of a request by `scores`: one logit per candidate, in their order.

    `truncated` is the number of candidates that were longer than the model reads, and `passages`
    has the passages that the scores are from.
    """
    documents = []
    places = passages.each() if passages else None
    for position, index in enumerate(best_indexes(scores, request.top_k), start=1):
        candidate = request.candidates[index]
        documents.append(
            RankedDocument(
                id=candidate.id,
                index=index,
                rank=position,
                score=scores[index],
                relevance=relevance(scores[index]),
                passage=Passage(**places[index]) if places else None,
                metadata=candidate.metadata,
            )
        )
    return Ranking(query_id=request.query_id, documents=tuple(documents), truncated=truncated)
