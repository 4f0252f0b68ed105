"""The search application with stand-ins for its models, and a server for it."""

from __future__ import annotations

import json
import math
import re
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import uvicorn
from fastapi import FastAPI

from examples.search.embeddings import Vector
from examples.search.settings import SAMPLE
from producer.cli.loopback import free_port
from tests.processes import wait_until

DIMENSIONS = 64
#: A query about the first half of the small collection.
QUERY = "combine several pdf documents into a single file"


class WordEmbedder:
    """A stand-in for an embedding model: texts that share words have similar vectors."""

    def __init__(self, name: str = "words") -> None:
        self.name = name
        #: The number of embedded texts.
        self.embedded = 0

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        self.embedded += len(texts)
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> Vector:
        counts = [1e-3] * DIMENSIONS
        for word in re.findall(r"\w+", text.lower()):
            counts[zlib.crc32(word.encode()) % DIMENSIONS] += 1
        length = math.hypot(*counts)
        return [count / length for count in counts]


def small_collection(folder: Path, name: str = "packages", size: int = 60) -> Path:
    """Write the first documents of the sample collection about PDF files, and others."""
    lines = (SAMPLE / "corpus.jsonl").read_text().splitlines()
    about = [line for line in lines if "pdf" in line.lower()][: size // 2]
    others = [line for line in lines if line not in about][: size - len(about)]
    made = folder / name
    made.mkdir()
    (made / "corpus.jsonl").write_text("\n".join([*about, *others]) + "\n")
    queries = (SAMPLE / "queries.jsonl").read_text().splitlines()[:8]
    (made / "queries.jsonl").write_text("\n".join(queries) + "\n")
    return made


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Yield the address of the application while a real server runs it."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the application starts")
        assert server.started, "the application did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def post(url: str, body: object) -> Any:
    """Send JSON, or bytes unchanged, and return the JSON of the response."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310
        url, data, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return json.loads(response.read())


def refused(url: str, body: object) -> tuple[int, Any]:
    """Return the status and the JSON of a refused POST. Fail if it is not refused."""
    try:
        answer = post(url, body)
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
    raise AssertionError(f"not refused: {answer}")


def seconds(url: str, body: object) -> float:
    """Return the duration of a POST."""
    began = time.perf_counter()
    post(url, body)
    return time.perf_counter() - began
