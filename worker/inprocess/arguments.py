"""Checks of the arguments of `rerank`: each error names the argument and what it must be."""

from __future__ import annotations

import operator
from typing import Any

from pydantic import BaseModel

from contract.errors import InvalidInput


def require_query(query: object) -> None:
    """Raise `InvalidInput` if the query is not a string."""
    if not isinstance(query, str):
        raise InvalidInput(f"query is {_kind(query)}: it must be a string")


def require_results(results: object) -> None:
    """Raise `InvalidInput` with the place of the first result that has no text to score.

    Any pydantic model with a `chunk` that has a `text` is accepted, so that programs can keep their
    own types.
    """
    if not isinstance(results, list | tuple):
        advice = "" if results is None else "; list(...) converts other collections"
        raise InvalidInput(f"results is {_kind(results)}: it must be a list{advice}")
    for index, result in enumerate(results):
        _require_text(result, f"results[{index}]")


def require_top_k(top_k: object) -> None:
    """Raise `InvalidInput` if `top_k` is neither None nor a whole number of 0 or more."""
    if top_k is None:
        return
    try:
        number = operator.index(top_k)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(top_k, bool):
        raise InvalidInput(f"top_k is {top_k!r}: it must be a whole number, or None for all")
    if number < 0:
        raise InvalidInput(f"top_k is {top_k}: it must be 0 or more, or None for all")


def _require_text(result: Any, place: str) -> None:
    if not isinstance(result, BaseModel):
        advice = "; QueryResult.model_validate(...) converts it" if isinstance(result, dict) else ""
        raise InvalidInput(f"{place} is {_kind(result)}: it must be a QueryResult{advice}")
    chunk: Any = getattr(result, "chunk", None)
    if not hasattr(chunk, "text"):
        raise InvalidInput(f"{place}.chunk is {_kind(chunk)}: it must be a DocumentChunkWithScore")
    if not isinstance(chunk.text, str):
        raise InvalidInput(f"{place}.chunk.text is {_kind(chunk.text)}: it must be a string")


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
