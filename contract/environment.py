"""Report environment variables with invalid values, and unknown ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from pydantic import SecretStr

from contract import validation
from contract.printable import visible

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails
    from pydantic_settings import BaseSettings

PREFIX = "RERANKQ_"
#: The number of characters of a value that a message shows.
SHOWN_CHARS = 60


@dataclass(frozen=True)
class Allowed:
    """Annotation of a field: its allowed values, if its type does not show them."""

    values: str


#: The settings of the worker, for the producer, which cannot import them. Both sides may share one
#: file of variables, so each must know the names that the other reads.
WORKER_SETTINGS = (
    "DEVICE",
    "THREADS",
    "MAX_BATCH_TOKENS",
    "MAX_LENGTH",
    "MODEL_MAX_LENGTHS",
    "PROMPT",
    "DTYPE",
    "DOWNGRADE_MODEL",
    "MAX_MODELS",
    "SOFT_TIME_LIMIT_S",
    "TIME_LIMIT_S",
    "MAX_ATTEMPTS",
    "LEASE_S",
    "SWEEP_EVERY_S",
    "RESEND_AFTER_S",
    "FLOWER_OPEN",
    "MODEL_LOAD_TIMEOUT_S",
    "LOG_FORMAT",
)
#: The settings of the HTTP service, for workers, which cannot import them either.
HTTP_SETTINGS = (
    "HTTP_TOKEN",
    "HTTP_TIMEOUT_S",
    "HTTP_MAX_BODY_BYTES",
    "HTTP_MAX_WAITING",
    "HTTP_NO_WORKER_S",
    "HTTP_MODEL_ALIASES",
    "HTTP_ACCESS_LOG",
)
#: Variables of several commands.
SHARED_OPTIONS = ("CACHE",)
#: The variable of a command's option begins with RERANKQ_ and the name of the command.
COMMANDS = (
    "SUBMIT",
    "RESULT",
    "STATUS",
    "METRICS",
    "CANCEL",
    "DEAD",
    "RESCORE",
    "PARTIAL",
    "MERGE",
    "COMPARE",
    "CACHE",
    "SERVE",
    "UP",
    "DEMO",
)
COMMAND_PREFIXES = tuple(f"{PREFIX}{command}_" for command in COMMANDS)


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return name if name.isupper() else f"{PREFIX}{name.upper()}"


def describe_error(settings: type[BaseSettings], error: ErrorDetails) -> str:
    """Return a one-line message: the variable, its allowed values, and its current value."""
    said = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return f"invalid settings: {said}"
    name = str(error["loc"][0])
    field = _field(settings, name)
    if field is None:
        known = [variable(each) for each in settings.model_fields]
        return f"unknown setting {variable(name)}{_nearest(variable(name), known)}"
    if error["type"] != "value_error":
        allowed = _allowed(field, error)
        said = f"must be {allowed}" if allowed else validation.reason(error)
    if field.annotation is not SecretStr:
        said += f" (got {_shown(error['input'])})"
    return f"invalid setting {variable(name)}: {said}"


def unknown_variables(environment: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """Yield a line for each variable that begins with RERANKQ_ and is not in `known`."""
    names = {
        *known,
        *(f"{PREFIX}{each}" for each in (*WORKER_SETTINGS, *HTTP_SETTINGS, *SHARED_OPTIONS)),
    }
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in names:
            yield f"unknown environment variable {visible(name)}{_nearest(name, names)}"


def _nearest(name: str, known: Iterable[str]) -> str:
    endings = {each.removeprefix(PREFIX): each for each in known}
    found = difflib.get_close_matches(name.removeprefix(PREFIX), endings, n=1, cutoff=0.5)
    return f"; did you mean {endings[found[0]]}?" if found else ""


def _field(settings: type[BaseSettings], name: str) -> FieldInfo | None:
    for field_name, field in settings.model_fields.items():
        if name in (field_name, field.validation_alias):
            return field
    return None


def _allowed(field: FieldInfo, error: ErrorDetails) -> str | None:
    for each in field.metadata:
        if isinstance(each, Allowed):
            return each.values
    kinds = get_args(field.annotation) or (field.annotation,)
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"])
    if bool in kinds:
        return "true or false"
    if int in kinds:
        return f"a whole number{_bounds(field.metadata)}"
    if float in kinds:
        return f"a number{_bounds(field.metadata)}"
    return None


def _bounds(metadata: Iterable[Any]) -> str:
    bounds: dict[str, Any] = {}
    for each in metadata:
        bounds |= {name: getattr(each, name) for name in _BOUNDS if hasattr(each, name)}
    if "ge" in bounds and "le" in bounds:
        return f" from {bounds['ge']:,} to {bounds['le']:,}"
    words = [f"{_BOUNDS[name]} {bounds[name]:,}" for name in _BOUNDS if name in bounds]
    return f", {' and '.join(words)}" if words else ""


_BOUNDS = {"ge": "at least", "gt": "greater than", "le": "at most", "lt": "less than"}


def _shown(value: object) -> str:
    text = visible(repr(value))
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 3]}..."
