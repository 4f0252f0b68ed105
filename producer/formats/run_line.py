"""The record of a run, whatever the format of its file."""

from __future__ import annotations

from typing import NamedTuple


class RunLine(NamedTuple):
    """A document that a first stage found for a query."""

    query_id: str
    document_id: str
    rank: int
    score: float
