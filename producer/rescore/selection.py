"""Select the candidates of each query that a journal's model scores."""

from __future__ import annotations

from producer.rescore.staged_query import StagedQuery

#: More than the candidates of any query.
ALL = 10**12


class Selection:
    """All candidates of each query. See `producer.rescore.cascade` for another selection."""

    #: The maximum number of candidates of a query.
    most = ALL

    def select(self, query: StagedQuery) -> StagedQuery | None:
        """Return the query with the selected candidates; None if it is not scored."""
        return query

    def basis(self, query_id: str) -> int | None:
        """Return the place in another journal of the line on which a query's selection depends."""
        return None
