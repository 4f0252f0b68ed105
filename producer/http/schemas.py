"""The parts of requests and answers that several APIs share."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, PlainValidator, WithJsonSchema

from contract.errors import InvalidInput
from contract.passages import AGGREGATES, LEAST_TOKENS, Passages
from contract.validation import kind_of

T = TypeVar("T")


class Body(BaseModel):
    """A request, which has no unknown fields, and whose values are not converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Answer(BaseModel):
    """An answer of the service."""

    model_config = ConfigDict(frozen=True)


def _check_document(given: object) -> str | dict[str, Any]:
    if isinstance(given, str):
        return _check_unicode(given, given)
    if not isinstance(given, dict):
        raise ValueError(f'must be a string or an object with "text", not {kind_of(given)}')
    if not isinstance(given.get("text"), str):
        said = kind_of(given["text"]) if "text" in given else "missing"
        raise ValueError(f'must have a "text" that is a string: it is {said}')
    return _check_unicode(given, json.dumps(given, ensure_ascii=False))


def _check_unicode(given: T, text: str) -> T:
    """Return `given` if its text can be encoded: JSON can have a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("has a lone surrogate, which is not Unicode") from None
    return given


#: A text, or an object with a text whose other fields are returned unchanged.
DocumentField = Annotated[
    str | dict[str, Any],
    PlainValidator(_check_document),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"text": {"type": "string"}},
                    "required": ["text"],
                    "additionalProperties": True,
                },
            ]
        }
    ),
]


def _check_passages(given: object) -> Passages | None:
    try:
        return Passages.parse(given)
    except InvalidInput as error:
        raise ValueError(str(error).removeprefix("passages: ")) from error


#: A number of tokens, or an object with it.
PassagesField = Annotated[
    Passages | None,
    PlainValidator(_check_passages),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": LEAST_TOKENS},
                {
                    "type": "object",
                    "properties": {
                        "tokens": {"type": "integer", "minimum": LEAST_TOKENS},
                        "stride": {"type": "integer", "minimum": 1},
                        "aggregate": {"enum": list(AGGREGATES)},
                    },
                    "required": ["tokens"],
                    "additionalProperties": False,
                },
                {"type": "null"},
            ]
        }
    ),
]

QUERY = "Which editor changes the tags of music files?"
DOCUMENTS: list[JsonValue] = [
    "EasyTAG edits the tags of MP3 and FLAC files",
    "A game with a blue hedgehog",
]


def text_of(document: str | dict[str, Any]) -> str:
    """Return the text to score."""
    return document if isinstance(document, str) else str(document["text"])
