"""Translate pydantic's validation errors into messages of this project.

pydantic's own messages ("Input should be a valid string") use the names of its types. Callers pass
JSON or plain Python data, so these messages use JSON's: object, list, string, number, null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from contract.printable import shortened

_OBJECT = "must be an object, not {kind}"
_LIST = "must be a list, not {kind}"
_STRING = "must be a string, not {kind}"
_NUMBER = "must be a number, not {kind}"
_WHOLE = "must be a whole number, not {kind}"
_BOOLEAN = "must be true or false, not {kind}"

#: Messages by pydantic's error type. `{kind}` is the JSON type of the given value; the other names
#: are those of the error's context.
_WORDS = {
    "missing": "is required",
    "extra_forbidden": "unknown field",
    "invalid_key": "has a field name that is not a string",
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dataclass_type": _OBJECT,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "iterable_type": _LIST,
    "string_type": _STRING,
    "string_sub_type": _STRING,
    "string_unicode": "is not UTF-8 text",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "int_type": _WHOLE,
    "int_parsing": "must be a whole number",
    "int_parsing_size": "has too many digits",
    "int_from_float": "must be a whole number, not a fraction",
    "float_type": _NUMBER,
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number, not NaN or infinity",
    "bool_type": _BOOLEAN,
    "bool_parsing": "must be true or false",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "none_required": "must be null, not {kind}",
    "invalid-json-value": "has a value that JSON cannot represent",
    "json_type": "must be JSON text, not {kind}",
    "json_invalid": "invalid JSON: {error}",
    "recursion_loop": "must not contain itself",
    "too_long": "must have at most {max_length} entries, not {actual_length}",
}

#: The missing item of an empty list, by the name of the field.
_NEEDED = {
    "candidates": "a request needs at least one candidate",
    "requests": "a job needs at least one request",
}


def describe(error: ValidationError) -> str:
    """Return the first fault that pydantic found in one line, as `place: message`."""
    first = error.errors(include_url=False)[0]
    where, message = place(first["loc"]), reason(first)
    count = error.error_count()
    more = f" (1 of {count} errors)" if count > 1 else ""
    return f"{where}: {message}{more}" if where else f"{message}{more}"


def place(location: tuple[int | str, ...]) -> str:
    """Return a path to a field as `requests[0].candidates[2].id`, in one line and not too long."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return shortened(" ".join(path.split()))


def reason(fault: Mapping[str, Any]) -> str:
    """Return the message for an item of `ValidationError.errors()`, without the value."""
    kind: str = fault["type"]
    context = fault.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])  # the message of a validator of this project
    if kind == "too_short":
        return _too_short(fault, context)
    if kind == "string_too_short" and context["min_length"] == 1:
        return "must not be empty"
    words = _WORDS.get(kind, "has an invalid value ({type})")
    return words.format_map({"kind": kind_of(fault.get("input")), "type": kind, **context})


def _too_short(fault: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    if context["actual_length"]:
        return f"must have at least {context['min_length']} entries, not {context['actual_length']}"
    name = fault["loc"][-1] if fault["loc"] else ""
    return f"must not be empty; {_NEEDED.get(str(name), 'at least one entry is required')}"


def kind_of(value: object) -> str:
    """Return the name of a value's JSON type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN or infinity"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list | tuple | set | frozenset):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    return f"a Python {type(value).__name__}"
