"""Read a collection: chunks from corpus.jsonl, and sample queries from queries.jsonl."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.inprocess import DocumentChunkMetadata, DocumentChunkWithScore, Source


@dataclass(frozen=True)
class Collection:
    """A folder in the layout of BEIR. Its name is the id of the collection."""

    folder: Path

    @property
    def id(self) -> str:
        # Milvus allows only letters, digits and underscores in the name of a collection.
        return "".join(each if each.isalnum() else "_" for each in self.folder.resolve().name)

    @property
    def fingerprint(self) -> str:
        """A hash that changes with the texts."""
        return hashlib.sha256(self._corpus.read_bytes()).hexdigest()[:12]

    @property
    def _corpus(self) -> Path:
        return self.folder / "corpus.jsonl"

    def chunks(self) -> list[DocumentChunkWithScore]:
        """Return a chunk for each document: the sample's documents are short."""
        return [
            DocumentChunkWithScore(
                chunk_id=each["_id"],
                text=f"{each.get('title', '')} {each['text']}".strip(),
                metadata=DocumentChunkMetadata(source=Source.OTHER, document_id=each["_id"]),
            )
            for each in _lines(self._corpus)
        ]

    def queries(self) -> list[str]:
        """Return the sample queries, or none if the folder has none."""
        path = self.folder / "queries.jsonl"
        return [each["text"] for each in _lines(path)] if path.exists() else []


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())
