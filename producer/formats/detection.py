"""Detect the kind of a file from its first record, for a hint if the wrong file was given."""

from __future__ import annotations

import json
from enum import Enum
from typing import NamedTuple

from producer.formats import values
from producer.formats.keys import DOCUMENT_KEYS, ID_KEYS, TEXT_KEYS


class FileKind(Enum):
    """The kinds of files; each value completes the sentence "this looks like ..."."""

    RUN = "a TREC run; pass it with --run"
    QRELS = "qrels; pass them with --qrels"
    THREE_COLUMNS = (
        "qrels in BEIR's format (pass them with --qrels) or a run in MS MARCO's format (pass it"
        " with --run)"
    )
    TEXTS = "ids with texts; pass them with --corpus or --queries"
    REQUESTS = "queries with their documents; pass them with --input"
    PAIRS = (
        "MS MARCO's top1000 file (query id, passage id, query and passage per line); pass it with"
        " --input"
    )
    MSMARCO_DOCUMENTS = (
        "MS MARCO's documents (id, URL, title and body per line); pass them with --corpus"
    )
    RESULTS = "output of `rerankq rescore --results`, which cannot be used as input"
    ARRAY = "a single JSON array; write one record per line with `jq -c '.[]'`"
    OBJECT = "a JSON object over several lines; write one record per line with `jq -c .`"
    COMMAS = "comma-separated values; use JSONL or tab-separated columns"
    JSON = "JSON, but columns are expected"
    DOCUMENTS = "texts"


#: Other kinds that the reader of a kind also accepts.
_ALSO_ACCEPTED = {
    FileKind.RUN: {FileKind.THREE_COLUMNS},
    FileKind.REQUESTS: {FileKind.PAIRS, FileKind.JSON},
    FileKind.QRELS: {FileKind.THREE_COLUMNS},
    FileKind.DOCUMENTS: {
        *(FileKind.TEXTS, FileKind.MSMARCO_DOCUMENTS),
        *(FileKind.COMMAS, FileKind.JSON),
    },
    # A request has an id and a query, as --queries requires.
    FileKind.TEXTS: {FileKind.REQUESTS, FileKind.JSON, FileKind.MSMARCO_DOCUMENTS},
}


#: Kinds that a valid line of another kind may resemble.
_UNCERTAIN = (FileKind.TEXTS, FileKind.COMMAS, FileKind.JSON)


class Hint(NamedTuple):
    """A description of a file's first line, if it is not of the wanted kind."""

    words: str
    #: Whether to refuse the line even if it can be parsed.
    certain: bool


def mismatch_hint(wanted: FileKind, line: str) -> Hint | None:
    """Return a hint if the line looks like another kind than `wanted`."""
    found = _detect(line.strip())
    if found is None or found is wanted or found in _ALSO_ACCEPTED.get(wanted, ()):
        return None
    certain = found not in _UNCERTAIN
    if wanted is FileKind.DOCUMENTS and not line.lstrip().startswith(("{", "[")):
        certain = line.split()[1:2] == ["Q0"]  # any other line may be a text
    return Hint(f"this looks like {found.value}", certain)


def is_msmarco_document(line: str) -> bool:
    """Return whether a line has an id, a URL, a title and a body."""
    columns = line.split("\t", 3)
    if len(columns) < 4:
        return False
    url = columns[1].strip()
    return url.startswith(("http://", "https://")) and len(url.split()) == 1


def _detect(line: str) -> FileKind | None:
    if line.startswith(("{", "[")):
        return _detect_json(line)
    return _detect_columns(line)


def _detect_json(line: str) -> FileKind | None:
    if line in ("[", "{"):
        return FileKind.ARRAY if line == "[" else FileKind.OBJECT
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return FileKind.ARRAY if line.startswith("[{") else None
    if isinstance(data, list):
        return FileKind.ARRAY
    keys = set(data)
    if "query_id" in keys and ("provenance" in keys or "error" in keys):
        return FileKind.RESULTS
    if "custom_id" in keys and "body" in keys:
        return FileKind.REQUESTS
    if "query" in keys and not keys.isdisjoint(("candidates", *DOCUMENT_KEYS)):
        return FileKind.REQUESTS
    if not keys.isdisjoint(ID_KEYS) and not keys.isdisjoint(TEXT_KEYS):
        return FileKind.TEXTS
    return FileKind.JSON


def _detect_columns(line: str) -> FileKind | None:
    words, columns = line.split(), line.split("\t")
    numbers = [values.looks_like_a_number(word) for word in words[:6]]
    # A text may begin with these words too, but then one tab separates it from its id.
    in_columns = len(columns) in (1, len(words))
    is_run = len(words) >= 5 and in_columns and all(numbers[3:5])
    if is_run and (words[1] in ("Q0", "q0") or (words[1] == "0" and len(words) == 6)):
        return FileKind.RUN
    if is_msmarco_document(line):
        return FileKind.MSMARCO_DOCUMENTS
    if len(columns) == 4 and all(each.isdigit() for each in columns[:2]) and not numbers[-1]:
        return FileKind.PAIRS
    if len(words) == 4 and in_columns and words[1] in ("Q0", "q0", "0") and numbers[3]:
        return FileKind.QRELS
    if len(words) == len(columns) == 3:
        if numbers[2]:
            return FileKind.THREE_COLUMNS
        if words[2].lower() in ("score", "relevance", "rel", "label"):
            return FileKind.QRELS
    if len(columns) == 2:
        return FileKind.TEXTS
    if len(columns) == 1 and "," in line and " " not in line:
        return FileKind.COMMAS
    return None
