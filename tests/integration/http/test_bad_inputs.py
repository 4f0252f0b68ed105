"""Thirty kinds of bad input are thirty clear errors, and no traceback is logged."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.http.conftest import Serve

QUERY = {"query": "a query"}
DOCUMENTS = {"documents": ["a document"]}
VALID = QUERY | DOCUMENTS


def nested(depth: int) -> bytes:
    return b'{"query": ' + b"[" * depth + b"]" * depth + b"}"


#: Bodies sent to /v2/rerank, with the status of the answer and the beginning of its message.
BAD: list[tuple[Any, int, str]] = [
    (b"", 422, "the body: is required"),
    (b"{", 400, "the body is not JSON"),
    (b"not JSON", 400, "the body is not JSON"),
    (b'{"query": "\xe9"}', 400, "the body is not JSON in UTF-8"),
    (nested(100_000), 400, "the body is not JSON"),
    (b"[]", 422, "the body: must be an object, not a list"),
    (b"null", 422, "the body: must be an object, not null"),
    (b'{"query": "q", "documents": ["a"], "\\ud800": 1}', 422, "the body: is not UTF-8 text"),
    (b'{"query": "q", "documents": [{"text": "a", "b": "\\ud800"}]}', 422, "documents[0]: "),
    (b'"text"', 422, "the body: must be an object, not a string"),
    ({}, 422, "query: is required (1 of 2 errors)"),
    (DOCUMENTS, 422, "query: is required"),
    (QUERY, 422, "documents: is required"),
    (VALID | {"query": None}, 422, "query: must be a string, not null"),
    (VALID | {"query": 7}, 422, "query: must be a string, not a number"),
    (VALID | {"query": ["a"]}, 422, "query: must be a string, not a list"),
    (VALID | {"query": ""}, 422, "query: must not be blank"),
    (VALID | {"query": " \n"}, 422, "query: must not be blank"),
    (b'{"query": "\\ud800", "documents": ["a"]}', 422, "query: "),
    (b'{"query": "q", "documents": ["\\ud800"]}', 422, "documents[0]: "),
    (VALID | {"documents": []}, 422, "documents: "),
    (VALID | {"documents": "a"}, 422, "documents: must be a list, not a string"),
    (VALID | {"documents": {"text": "a"}}, 422, "documents: must be a list, not an object"),
    (VALID | {"documents": ["a", None]}, 422, "documents[1]: must be a string or an object"),
    (VALID | {"documents": [7]}, 422, "documents[0]: must be a string or an object"),
    (VALID | {"documents": [{"title": "a"}]}, 422, 'documents[0]: must have a "text"'),
    (VALID | {"documents": [{"text": None}]}, 422, 'documents[0]: must have a "text"'),
    (VALID | {"top_n": 0}, 422, "top_n: must be at least 1"),
    (VALID | {"top_n": 1.5}, 422, "top_n: must be a whole number"),
    (VALID | {"top_n": "3"}, 422, "top_n: must be a whole number, not a string"),
    (VALID | {"top_n": 10**5000}, 400, "the body is not JSON"),
    (VALID | {"return_documents": "yes"}, 422, "return_documents: must be true or false"),
    (VALID | {"max_tokens_per_doc": -1}, 422, "max_tokens_per_doc: must be at least 1"),
    (VALID | {"model": 3}, 422, "model: must be a string, not a number"),
    (VALID | {"model": "rerank-v3.5"}, 422, "model: 'rerank-v3.5' is not available; send one of"),
    (VALID | {"passages": 7}, 422, "passages: tokens: must be at least 8"),
    (VALID | {"passages": "64"}, 422, "passages: tokens: must be a whole number"),
    (VALID | {"passages": {"tokens": 64, "size": 1}}, 422, "passages: size: unknown field"),
    (VALID | {"topn": 3}, 422, "topn: unknown field"),
    (VALID | {"documents": ["d" * 1001]}, 413, "document '0' has 1,001 characters"),
]
assert len(BAD) >= 30


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


@pytest.fixture(scope="module")
def log() -> Iterator[list[logging.LogRecord]]:
    """Collect the log of the tests of this file."""
    records: list[logging.LogRecord] = []
    handler = Records(records)
    logging.getLogger().addHandler(handler)
    yield records
    logging.getLogger().removeHandler(handler)


def content(given: Any) -> bytes:
    if isinstance(given, bytes):
        return given
    if isinstance(given, dict) and given.get("top_n") == 10**5000:
        return json.dumps(given | {"top_n": 0}).replace("0}", "1" + "0" * 5000 + "}").encode()
    return json.dumps(given).encode()


def test_bad_input_is_a_clear_error_and_no_traceback(
    serve: Serve, log: list[logging.LogRecord]
) -> None:
    headers = {"Content-Type": "application/json"}
    wrong = []
    with serve(max_text_chars=1000) as api:
        for given, status, message in BAD:
            answer = api.post("/v2/rerank", content=content(given), headers=headers)
            said = answer.json().get("message", "")
            if answer.status_code != status or not said.startswith(message):
                wrong.append((given, answer.status_code, said))

    assert wrong == []
    assert [each for each in log if each.exc_info or each.levelno >= logging.ERROR] == []


TEI_BAD: list[tuple[Any, int, str]] = [
    ({"query": "q"}, 422, "texts: is required"),
    ({"query": "q", "texts": []}, 422, "texts: "),
    ({"query": "q", "texts": [{"text": "a"}]}, 422, "texts[0]: must be a string, not an object"),
    ({"query": "q", "texts": ["a"], "truncation_direction": "Left"}, 422, "truncation_direction: "),
    ({"query": "q", "texts": ["a"], "raw_scores": 1}, 422, "raw_scores: must be true or false"),
]


def test_bad_input_of_tei_s_clients_is_a_clear_error(serve: Serve) -> None:
    with serve() as api:
        answers: list[httpx.Response] = [api.post("/rerank", json=each) for each, *_ in TEI_BAD]

    for answer, (_, status, message) in zip(answers, TEI_BAD, strict=True):
        assert answer.status_code == status
        assert answer.json()["error"].startswith(message)
        assert answer.json()["error_type"] == "Validation"
