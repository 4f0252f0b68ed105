"""Values of columns: metadata as JSON, columns that are not given, and checks of lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic_core import from_json, to_json

from contract.records import Record

T = TypeVar("T")

#: Metadata of candidates or documents, each as a JSON object in one line.
Metadata = list[str | None]


def given(column: list[T]) -> list[T] | None:
    """Return a column, or None if none of its values is given."""
    return column if column.count(None) < len(column) else None  # type: ignore[arg-type]


def filled(column: Sequence[T] | None, rows: int) -> Sequence[T | None]:
    """Return a column; one that is not given as Nones."""
    return [None] * rows if column is None else column


def as_json(metadata: dict[str, Any] | None) -> str | None:
    """Return metadata as JSON in one line."""
    return None if metadata is None else to_json(metadata).decode()


def parsed(metadata: str | None) -> Any:
    """Return metadata from its JSON. Raises `ValueError`."""
    return None if metadata is None else from_json(metadata.encode(), allow_inf_nan=False)


def check_lengths(columns: Record, names: Sequence[str], rows: int) -> None:
    """Raise `ValueError` unless these columns have this number of values, or are not given."""
    for name in names:
        column = getattr(columns, name)
        if column is not None and len(column) != rows:
            raise ValueError(f"{name}: must have {rows:,} entries, not {len(column):,}")


def check_counts(counts: Sequence[int], rows: int) -> None:
    """Raise `ValueError` unless the counts divide this number of rows."""
    if min(counts, default=0) < 0 or sum(counts) != rows:
        raise ValueError(f"counts: must add up to {rows:,}")


def check_metadata(metadata: Metadata | None) -> None:
    """Raise `ValueError` unless all texts are JSON objects in one line."""
    for row, text in enumerate(metadata or ()):
        if text is not None and not _is_metadata(text):
            raise ValueError(f"metadata[{row}]: must be a JSON object in one line")


def _is_metadata(text: str) -> bool:
    try:
        return "\n" not in text and isinstance(parsed(text), dict)
    except ValueError:
        return False
