"""Make the files of a re-scoring of any size from the sample."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from benchmarks.work import CANDIDATES, KINDS, SAMPLE, Collection, Query


def copies(pairs: int) -> Iterator[tuple[int, Query]]:
    """Yield unique queries with about `pairs` pairs in total, each with the number of its copy.

    The sample is repeated as often as needed. The number of the copy is appended to the text of
    each query and document, so the corpus grows with the queries.
    """
    collection = Collection(SAMPLE)
    queries = collection.draw(KINDS["real"], len(collection), CANDIDATES, seed=0)
    for number in range(math.ceil(pairs / CANDIDATES)):
        copy, place = divmod(number, len(queries))
        query = queries[place]
        documents = tuple(f"{text} {copy}" for text in query.documents)
        yield copy, Query(f"{query.text} {copy}", documents)


def write_inputs(folder: Path, pairs: int) -> int:
    """Write the corpus, the queries and the run of `copies`; return the number of queries."""
    ids: dict[str, str] = {}
    number = -1
    with (
        (folder / "corpus.jsonl").open("w") as corpus,
        (folder / "queries.jsonl").open("w") as questions,
        (folder / "run.trec").open("w") as run,
    ):
        current = 0
        for number, (copy, query) in enumerate(copies(pairs)):
            if copy != current:
                current = copy
                ids.clear()  # each copy has its own documents
            _write(questions, _id=f"q{number}", text=query.text)
            for rank, text in enumerate(query.documents, start=1):
                if text not in ids:
                    ids[text] = f"d{copy}-{len(ids)}"
                    _write(corpus, _id=ids[text], title="", text=text)
                run.write(f"q{number} Q0 {ids[text]} {rank} {CANDIDATES - rank} bm25\n")
    return number + 1


def _write(file: IO[str], **record: str) -> None:
    file.write(json.dumps(record) + "\n")
