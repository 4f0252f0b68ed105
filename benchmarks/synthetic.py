"""Make the files of a re-scoring of any size from random words.

Unlike those of `inputs.py`, few queries of a job share a document, as in a large collection.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

CANDIDATES = 100
#: The average number of queries in which a document occurs, and the words of a document and a
#: query. A document has about 390 bytes.
QUERIES_OF_DOCUMENT = 4
DOCUMENT_WORDS, QUERY_WORDS = 56, 6


def write_inputs(folder: Path, pairs: int) -> int:
    """Write a collection of about `pairs` pairs; return the number of queries."""
    chance, queries = random.Random(0), max(1, pairs // CANDIDATES)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(3, 9))) for _ in range(4000)]
    documents = max(CANDIDATES, queries * CANDIDATES // QUERIES_OF_DOCUMENT)
    with (folder / "corpus.jsonl").open("w") as corpus:
        for number in range(documents):
            text = " ".join(chance.choices(words, k=DOCUMENT_WORDS))
            corpus.write(json.dumps({"_id": f"d{number}", "text": text}) + "\n")
    with (folder / "queries.jsonl").open("w") as asked, (folder / "run.trec").open("w") as run:
        for number in range(queries):
            text = " ".join(chance.choices(words, k=QUERY_WORDS))
            asked.write(json.dumps({"_id": f"q{number}", "text": text}) + "\n")
            for rank, document in enumerate(chance.sample(range(documents), CANDIDATES), start=1):
                run.write(f"q{number} Q0 d{document} {rank} {CANDIDATES - rank} bm25\n")
    return queries
