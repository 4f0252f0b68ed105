"""Tells what the first record of a file looks like, for whoever named the wrong file."""

from __future__ import annotations

import json
from enum import Enum
from typing import NamedTuple

from producer.formats import values
from producer.formats.keys import DOCUMENT_KEYS, ID_KEYS, TEXT_KEYS


class Content(Enum):
    """What a file can hold, in words that go on as "this looks like ..."."""

    RUN = "a TREC run, which is for --run"
    QRELS = "qrels, which are for --qrels"
    THREE_COLUMNS = (
        "BEIR's qrels, which are for --qrels, or MS MARCO's run of three columns, which becomes a"
        ' TREC run with awk \'{print $1, "Q0", $2, $3, -$3, "msmarco"}\''
    )
    TEXTS = "ids with texts, which are for --corpus or --queries"
    REQUESTS = "queries with their documents, which are for --input"
    PAIRS = (
        "MS MARCO's top1000 (query id, passage id, query, passage in each line), which is for"
        " --input"
    )
    RESULTS = "what rescore writes with --results, which is not an input"
    ARRAY = "one JSON array: write a record a line with jq -c '.[]'"
    OBJECT = "one JSON object over several lines: write a record a line with jq -c ."
    COMMAS = "comma-separated values: write JSONL, or tabs between the columns"
    JSON = "JSON, where columns are looked for"
    DOCUMENTS = "texts"


#: Besides itself, what a reader of each takes.
_ALSO = {
    Content.REQUESTS: {Content.PAIRS, Content.JSON},
    Content.QRELS: {Content.THREE_COLUMNS},
    Content.DOCUMENTS: {Content.TEXTS, Content.COMMAS, Content.JSON},
    # A request has an id and a query, which is all that is asked of --queries.
    Content.TEXTS: {Content.REQUESTS, Content.JSON},
}


#: What a line may look like that is read as something else, and is that.
_UNCERTAIN = (Content.TEXTS, Content.COMMAS, Content.JSON)


class Hint(NamedTuple):
    """What the first line of a file looks like, if that is not what is looked for."""

    words: str
    #: Whether to refuse the line though it can be read.
    certain: bool


def mismatch_hint(wanted: Content, line: str) -> Hint | None:
    """Return what the line is, if it looks like something else than `wanted`."""
    found = _content(line.strip())
    if found is None or found is wanted or found in _ALSO.get(wanted, ()):
        return None
    certain = found not in _UNCERTAIN
    if wanted is Content.DOCUMENTS and not line.lstrip().startswith(("{", "[")):
        certain = line.split()[1:2] == ["Q0"]  # any other line may be a text
    return Hint(f"this looks like {found.value}", certain)


def _content(line: str) -> Content | None:
    if line.startswith(("{", "[")):
        return _of_json(line)
    return _of_columns(line)


def _of_json(line: str) -> Content | None:
    if line in ("[", "{"):
        return Content.ARRAY if line == "[" else Content.OBJECT
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return Content.ARRAY if line.startswith("[{") else None
    if isinstance(data, list):
        return Content.ARRAY
    keys = set(data)
    if "query_id" in keys and ("provenance" in keys or "error" in keys):
        return Content.RESULTS
    if "query" in keys and not keys.isdisjoint(("candidates", *DOCUMENT_KEYS)):
        return Content.REQUESTS
    if not keys.isdisjoint(ID_KEYS) and not keys.isdisjoint(TEXT_KEYS):
        return Content.TEXTS
    return Content.JSON


def _of_columns(line: str) -> Content | None:
    words, columns = line.split(), line.split("\t")
    numbers = [values.looks_like_a_number(word) for word in words[:6]]
    # A text may begin with these words as well, but stands behind one tab then.
    in_columns = len(columns) in (1, len(words))
    is_run = len(words) >= 5 and in_columns and all(numbers[3:5])
    if is_run and (words[1] in ("Q0", "q0") or (words[1] == "0" and len(words) == 6)):
        return Content.RUN
    if len(columns) == 4 and all(each.isdigit() for each in columns[:2]) and not numbers[-1]:
        return Content.PAIRS
    if len(words) == 4 and in_columns and words[1] in ("Q0", "q0", "0") and numbers[3]:
        return Content.QRELS
    if len(words) == len(columns) == 3:
        if numbers[2]:
            return Content.THREE_COLUMNS
        if words[2].lower() in ("score", "relevance", "rel", "label"):
            return Content.QRELS
    if len(columns) == 2:
        return Content.TEXTS
    if len(columns) == 1 and "," in line and " " not in line:
        return Content.COMMAS
    return None
