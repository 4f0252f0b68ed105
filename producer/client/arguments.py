"""Check the arguments of the clients' methods before anything is sent.

Programs pass what they have: numbers of numpy, a frame of pandas, a timeout from a file.
A wrong argument raises `InvalidInput`, which names it.
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, SupportsIndex, TypeVar

from contract import jobs, names
from contract.errors import InvalidInput
from contract.settings import Settings
from contract.validation import kind_of

T = TypeVar("T")

MAX_LABEL_CHARS = 200


def check_settings(settings: Settings | None) -> None:
    """Raise `InvalidInput` unless `settings` are settings or None."""
    if settings is not None and not isinstance(settings, Settings):
        raise InvalidInput(
            f"settings must be Settings, not {kind_of(settings)}; to name the server, pass"
            " redis_url=URL"
        )


def check_list(name: str, value: Iterable[T]) -> Iterable[T]:
    """Return `value` if it can be read as a list. Raises `InvalidInput`."""
    if isinstance(value, str | bytes | Mapping):
        raise InvalidInput(f"{name} must be a list, not a single one")
    if getattr(value, "ndim", 1) != 1:
        # Iterating over a frame of pandas would yield the names of its columns.
        raise InvalidInput(
            f"{name} must be a list, not a table ({type(value).__name__}); for the rows of a frame,"
            " pass frame.to_dict('records')"
        )
    if not isinstance(value, Iterable):
        raise InvalidInput(f"{name} must be a list, not {kind_of(value)}")
    return value


def check_timeout(timeout_s: float | None, name: str = "timeout") -> None:
    """Raise `InvalidInput` unless a timeout is a number of seconds or None."""
    if timeout_s is None:
        return
    try:
        seconds = float(timeout_s) if isinstance(timeout_s, Real) else None
    except OverflowError:
        seconds = None
    if seconds is None or seconds != seconds:
        raise InvalidInput(
            f"{name} must be a number of seconds, or None for no limit, not"
            f" {reprlib.repr(timeout_s)}"
        )


def check_priority(priority: SupportsIndex) -> int:
    """Return a priority of 0 to 9 as an int. Raises `InvalidInput`."""
    number = _whole(priority)
    if number is None or number not in range(10):
        raise InvalidInput(
            f"priority must be from 0 (first) to 9 (last), not {reprlib.repr(priority)}"
        )
    return number


def check_pairs_per_job(pairs: SupportsIndex | None) -> int | None:
    """Return a number of pairs as an int, or None. Raises `InvalidInput`."""
    if pairs is None:
        return None
    number = _whole(pairs)
    if number is None or number < 1:
        raise InvalidInput(
            "pairs_per_job must be a whole number, at least 1, or None for as many as the limits"
            f" allow, not {reprlib.repr(pairs)}"
        )
    return number


def check_group(group: str | None) -> None:
    """Raise `InvalidInput` unless the name of a group has the characters of a job id."""
    if group is not None and not (isinstance(group, str) and jobs.JOB_ID.fullmatch(group)):
        raise InvalidInput(
            "group must have 1 to 128 characters (letters, digits, . _ : -) and begin with a letter"
            " or digit"
        )


def check_trace(trace: Mapping[str, str] | None) -> None:
    """Raise `InvalidInput` unless `trace` has only headers of the W3C trace context."""
    if trace is not None and not isinstance(trace, Mapping):
        raise InvalidInput(f"trace must be a dict of headers, not {kind_of(trace)}")
    for name, value in (trace or {}).items():
        if name not in names.TRACE_HEADERS:
            raise InvalidInput(f"trace: {name!r} is none of {', '.join(names.TRACE_HEADERS)}")
        if not isinstance(value, str) or len(value) > names.MAX_TRACE_CHARS:
            raise InvalidInput(
                f"trace: {name} must be a string of at most {names.MAX_TRACE_CHARS:,} characters"
            )


def check_label(label: str | None) -> None:
    """Raise `InvalidInput` unless `label` is None or a short text."""
    if label is not None and (not isinstance(label, str) or not 0 < len(label) <= MAX_LABEL_CHARS):
        raise InvalidInput(f"label must have 1 to {MAX_LABEL_CHARS} characters")


def _whole(value: Any) -> int | None:
    """Return a whole number of any numeric type as an int; None for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        return None
