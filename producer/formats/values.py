"""Parse JSON objects, ids and numbers; raise `ValueError` with a message for invalid ones."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from contract.validation import kind_of
from producer.files.quoting import quoted

#: Made once, because `json.loads` with arguments makes a decoder for each call.
_DECODER = json.JSONDecoder()


def is_json(line: str) -> bool:
    """Return whether a line is intended as a JSON object."""
    return line.lstrip().startswith("{")


def json_object(line: str) -> dict[str, Any]:
    """Return the JSON object in a line."""
    try:
        data = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        problem = error.msg.removesuffix(" at")
        raise ValueError(
            f"invalid JSON: {problem} at column {error.colno}{_hint(error)}"
        ) from error
    except RecursionError as error:
        raise ValueError("invalid JSON: nested too deeply") from error
    except ValueError as error:  # an integer exceeds Python's limit of digits
        raise ValueError("invalid JSON: a number has too many digits") from error
    if not isinstance(data, dict):
        raise ValueError(f'expected a JSON object ({{"name": value}}), found {kind_of(data)}')
    if "\\ud" in line or "\\uD" in line:
        _check_unicode(data)
    return data


def _hint(error: json.JSONDecodeError) -> str:
    if error.doc[error.pos :].strip() == ",":
        return "; remove the commas between lines"
    if error.msg == "Extra data":
        return "; write one record per line"
    if error.msg.startswith("Unterminated") or error.pos >= len(error.doc.rstrip()):
        return ": the line ends too early; write one record per line with `jq -c .`"
    return ""


def _check_unicode(data: dict[str, Any]) -> None:
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            "a string contains a lone surrogate, which is not valid Unicode"
        ) from error


def check_keys(line: str, *counts: tuple[str, int]) -> None:
    """Refuse a line in which an object has a duplicate key.

    `counts` are keys with their expected number of occurrences in the line. The line is decoded
    again only if a key occurs more often.
    """
    if any(line.count(f'"{key}"') > most for key, most in counts):
        json.loads(line, object_pairs_hook=_check_pairs)


def _check_pairs(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f'duplicate key "{key}" in an object')
        seen.add(key)


def identifier(value: Any) -> str:
    """Return an id as a string; refuse white space, which a TREC run cannot represent."""
    if type(value) is not str:
        if isinstance(value, bool) or not isinstance(value, int):
            given = repr(value) if isinstance(value, float) else kind_of(value)
            raise ValueError(f"an id must be a string or a whole number, not {given}")
        return str(value)
    # Few calls, because this runs for every record; split() splits at any white space.
    if value.split() != [value] or "\0" in value:
        raise ValueError(
            f"invalid id {quoted(value)}: ids must not be empty or contain white space or NUL,"
            " which a TREC run cannot represent"
        )
    return value


def are_identifiers(texts: Sequence[str]) -> bool:
    """Return whether `identifier` accepts each of these strings."""
    joined = " ".join(texts)
    return "\0" not in joined and joined.split() == list(texts)


def looks_like_a_number(text: str) -> bool:
    """Return whether Python reads `text` as a number, NaN included."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def number(text: str, what: str) -> float:
    """Return a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = None
    if value is None or "_" in text:
        raise ValueError(f"the {what} {quoted(text)} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"the {what} is {text}; use a finite number")
    return value


def whole_number(text: str, what: str) -> int:
    """Return a whole number that the database can store."""
    if len(text) < 10 and text.isdecimal():  # a fast path, for every line of a run
        return int(text)
    value = number(text, what)
    if not value.is_integer() or abs(value) >= 2**31:
        raise ValueError(f"the {what} {quoted(text)} is not a whole number, or is too large")
    return int(value)


def numbers(texts: Sequence[str]) -> list[float] | None:
    """Return the numbers that `number` returns; None if it refuses one."""
    try:
        found = list(map(float, texts))
    except ValueError:
        return None
    return found if all(map(math.isfinite, found)) and "_" not in "".join(texts) else None


def whole_numbers(texts: Sequence[str]) -> list[int] | None:
    """Return the numbers that `whole_number` returns; None if one is refused or is unusual."""
    if max(map(len, texts)) >= 10 or not all(map(str.isdecimal, texts)):
        return None
    return list(map(int, texts))
