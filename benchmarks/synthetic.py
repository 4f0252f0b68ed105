"""A collection of random words, of any size and without a model's tokenizer."""

from __future__ import annotations

import json
import random
from pathlib import Path

CANDIDATES = 100
#: The average number of queries in which a document occurs, and the words of a document and a
#: query. A document has about 390 bytes.
QUERIES_OF_DOCUMENT = 4
DOCUMENT_WORDS, QUERY_WORDS = 56, 6


def write_inputs(folder: Path, queries: int) -> list[str]:
    """Write a corpus, queries and a run; return the options that read them."""
    chance = random.Random(0)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(3, 9))) for _ in range(4000)]
    documents = max(CANDIDATES, queries * CANDIDATES // QUERIES_OF_DOCUMENT)
    files = [folder / name for name in ("corpus.jsonl", "queries.jsonl", "run.trec")]
    with files[0].open("w") as corpus:
        for number in range(documents):
            text = " ".join(chance.choices(words, k=DOCUMENT_WORDS))
            corpus.write(json.dumps({"_id": f"d{number}", "text": text}) + "\n")
    with files[1].open("w") as asked, files[2].open("w") as run:
        for number in range(queries):
            text = " ".join(chance.choices(words, k=QUERY_WORDS))
            asked.write(json.dumps({"_id": f"q{number}", "text": text}) + "\n")
            for rank, document in enumerate(chance.sample(range(documents), CANDIDATES), start=1):
                run.write(f"q{number} Q0 d{document} {rank} {CANDIDATES - rank} bm25\n")
    return [
        *("--corpus", str(files[0]), "--queries", str(files[1]), "--run", str(files[2])),
        *("--output", str(folder / "reranked.trec")),
    ]
