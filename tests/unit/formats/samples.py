"""A small file of each kind, and functions that read one or return the reason why it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InvalidInput
from producer.formats.corpus import read_texts
from producer.formats.documents import read_documents
from producer.formats.qrels import read_qrels
from producer.formats.records import InvalidLines
from producer.formats.requests import read_requests
from producer.formats.texts import Text
from producer.formats.trec_run import read_run

Reader = Callable[[str, InvalidLines], Iterator[tuple[int, Any]]]

RUN = "q1 Q0 d1 1 2.5 tag\nq1 Q0 d2 2 1.5 tag\n"
QRELS = "q1 0 d1 1\nq1 0 d2 0\n"
TEXTS = '{"_id": "d1", "text": "one"}\n{"_id": "d2", "text": "two"}\n'
REQUESTS = "".join(
    f'{{"query_id": "q{n}", "query": "q", "candidates": [{{"id": "d1", "text": "one"}}]}}\n'
    for n in (1, 2)
)


def texts(path: str, bad: InvalidLines) -> Iterator[tuple[int, Text]]:
    return read_texts(path, bad, max_chars=100)


def documents(path: str, _: InvalidLines) -> Iterator[tuple[int, Any]]:
    return enumerate(read_documents(path), start=1)


READERS: dict[Reader, str] = {
    read_run: RUN,
    read_qrels: QRELS,
    texts: TEXTS,
    read_requests: REQUESTS,
    documents: TEXTS,
}
every_reader = pytest.mark.parametrize(("reader", "content"), READERS.items())
#: All but the documents of one query, which are never skipped.
every_skipper = pytest.mark.parametrize(("reader", "content"), list(READERS.items())[:-1])


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(reader: Reader, path: Path, content: str | bytes) -> list[Any]:
    return [item for _, item in reader(write(path, content), InvalidLines())]


def refusal(reader: Reader, path: Path, content: str | bytes) -> str:
    """Return what is reported about a file, without its name, which must come first."""
    with pytest.raises(InvalidInput) as caught:
        read(reader, path, content)
    message = str(caught.value)
    del caught  # whose traceback would keep the file open until garbage is collected
    assert message.startswith(f"{path}:")
    assert "\n" not in message
    return message.removeprefix(f"{path}:")


def request_line(**changes: Any) -> str:
    candidates = [{"id": "d1", "text": "one"}]
    return json.dumps({"query_id": "q1", "query": "q", "candidates": candidates, **changes}) + "\n"


def rank_llm_line(*candidates: Any, **query: Any) -> str:
    return json.dumps({"query": {"qid": "q1", "text": "q", **query}, "candidates": candidates})
