"""Batch files in the shape of OpenAI's: a request in each line, and its answer in another file.

The body of a request is one for Cohere's, Jina's or Voyage's API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contract import jobs
from contract.validation import describe

Content = TypeVar("Content")

#: The fields of a body for the number of documents to return.
MOST_DOCUMENTS = ("top_n", "top_k")


class BatchLine(BaseModel, Generic[Content]):
    """A request of a batch, with the id that its answer has too."""

    model_config = ConfigDict(extra="forbid", strict=True)

    custom_id: jobs.Text = Field(min_length=1)
    body: Content
    method: str | None = None
    url: str | None = None


def is_batch_line(data: Mapping[str, Any]) -> bool:
    """Return whether an object is meant as a line of a batch file."""
    return "custom_id" in data and "body" in data


def request_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a line with the id of its query. Raises `ValueError`.

    The number of documents to return is not used: it is set for the whole run.
    """
    given = data["custom_id"]
    try:
        line = BatchLine[dict[str, Any]].model_validate(
            data | {"custom_id": str(given) if type(given) is int else given}
        )
    except ValidationError as error:
        raise ValueError(f'{describe(error)}, in a line with "custom_id" and "body"') from error
    body = {key: value for key, value in line.body.items() if key not in MOST_DOCUMENTS}
    return body | {"query_id": line.custom_id}


def answer_line(custom_id: str | None, body: object, **response: Any) -> str:
    """Return the line of an answer."""
    answer = {"status_code": 200, **response, "body": body}
    return _line({"custom_id": custom_id, "response": answer, "error": None})


def failure_line(
    custom_id: str | None, code: str, message: str, response: object = None, **fields: Any
) -> str:
    """Return the line of a request without an answer."""
    error = {"code": code, "message": message}
    return _line({"custom_id": custom_id, **fields, "response": response, "error": error})


def _line(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"
