"""The pairs to score: whole queries with their candidates, in documents of various lengths."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

Pair = tuple[str, str]

SAMPLE = Path(__file__).parents[1] / "examples" / "packages"
#: Maximum tokens that every way reads of a pair.
MAX_LENGTH = 512
#: Maximum candidates per query: as many as the sample has.
CANDIDATES = 50
#: Minimum candidates per query: fewer would be one small batch for every way.
FEWEST = 8
#: A name and this many words are about 20 tokens, including their query.
SHORT_WORDS = 2
#: This many characters are more than 512 tokens for all texts here.
LONG_CHARS = 4_000


@dataclass(frozen=True)
class Kind:
    """A kind of documents."""

    name: str
    #: The name in tables.
    title: str
    #: Pairs to score for each pair of real documents.
    pairs_factor: float
    #: Approximate tokens of a pair.
    tokens: int


#: Shortest first, so that the peak memory of a process belongs to the documents scored last.
KINDS = {
    kind.name: kind
    for kind in (
        Kind("short", "short documents", 2.0, 22),
        Kind("real", "real documents", 1.0, 90),
        Kind("long", "long documents", 0.2, MAX_LENGTH),
    )
}


@dataclass(frozen=True)
class Query:
    """A query with its candidates, best first."""

    text: str
    documents: tuple[str, ...]

    @property
    def pairs(self) -> list[Pair]:
        """The query paired with each document."""
        return [(self.text, document) for document in self.documents]


class Collection:
    """A first-stage run with its texts: corpus.jsonl, queries.jsonl and bm25.trec in a folder."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self._documents = _texts(folder / "corpus.jsonl")
        self._queries = _texts(folder / "queries.jsonl")
        self._run: dict[str, list[str]] = {}
        for line in (folder / "bm25.trec").read_text().splitlines():
            query_id, _, document_id, *_ = line.split()
            self._run.setdefault(query_id, []).append(document_id)
        self._ids = list(self._documents)
        self._places = {document_id: place for place, document_id in enumerate(self._ids)}

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self._run)

    def draw(self, kind: Kind, queries: int, candidates: int, seed: int) -> list[Query]:
        """Return random queries with their candidates, without duplicate pairs.

        Some ways score duplicate pairs only once.
        """
        drawn = random.Random(seed).sample(list(self._run), queries)
        return [
            Query(self._queries[query_id], self._cut(kind, self._run[query_id], candidates))
            for query_id in drawn
        ]

    def call(self, kind: Kind, documents: int, chance: random.Random) -> Query:
        """Return a query with `documents` documents, drawn at random from the whole corpus."""
        query = chance.choice(list(self._queries.values()))
        return Query(query, self._cut(kind, chance.sample(self._ids, 2 * documents), documents))

    def _cut(self, kind: Kind, document_ids: list[str], count: int) -> tuple[str, ...]:
        texts = dict.fromkeys(self._text(kind, each) for each in document_ids)
        return tuple(list(texts)[:count])

    def _text(self, kind: Kind, document_id: str) -> str:
        text = self._documents[document_id]
        if kind.name == "short":
            # The name comes first, because many descriptions begin with the same words.
            return f"{document_id}: {' '.join(text.split()[:SHORT_WORDS])}"
        if kind.name == "long":
            place = self._places[document_id]
            while len(text) < LONG_CHARS:
                place = (place + 1) % len(self._ids)
                text = f"{text} {self._documents[self._ids[place]]}"
        return text


@dataclass(frozen=True)
class Plan:
    """The share of a collection to score, so that no text is scored twice."""

    candidates: int
    queries_each: int
    repeats: int

    @classmethod
    def of(cls, pairs: int, repeats: int, queries: int) -> Plan:
        """Plan about `pairs` pairs per repeat, of at least two queries if there are enough."""
        candidates = min(CANDIDATES, max(FEWEST, pairs // 2))
        # One query is reserved for the check.
        most = (queries - 1) // repeats
        if most < 1:
            raise ValueError(
                f"{repeats} repeats require more than {repeats} queries, but there are {queries}"
            )
        return cls(candidates, max(1, min(most, round(pairs / candidates))), repeats)


def samples(
    collection: Collection, kind: Kind, plan: Plan, seed: int
) -> tuple[list[Pair], list[list[Pair]]]:
    """Return the pairs of the check and those of each repeat, with different queries each time.

    An engine that caches words must not benefit from having scored the same texts before.
    """
    queries = 1 + plan.repeats * plan.queries_each
    drawn = collection.draw(kind, queries, plan.candidates, seed)
    repeats = [
        [pair for query in drawn[start : start + plan.queries_each] for pair in query.pairs]
        for start in range(1, queries, plan.queries_each)
    ]
    return drawn[0].pairs, repeats


def token_lengths(folder: Path, pairs: list[Pair]) -> list[int]:
    """Return the number of tokens of each pair after truncation, for the model in `folder`."""
    return [len(encoding.ids) for encoding in tokenizer_of(folder).encode_batch(pairs)]


def tokenizer_of(folder: Path) -> Tokenizer:
    """Return the tokenizer of the model in `folder`, with truncation and without padding."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    return tokenizer


def _texts(path: Path) -> dict[str, str]:
    """Return texts by id. The last duplicate counts, as in `rerankq rescore --skip-invalid`."""
    lines = map(json.loads, path.read_text().splitlines())
    return {line["_id"]: f"{line.get('title') or ''} {line['text']}".strip() for line in lines}
