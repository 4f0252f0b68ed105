"""The pairs that are scored: whole queries with their candidates, and how long they are."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

Pair = tuple[str, str]

SAMPLE = Path(__file__).parents[1] / "examples" / "packages"
#: What every way reads of a pair, in tokens.
MAX_LENGTH = 512
#: Of a query, at most: as many as the sample has.
CANDIDATES = 50
#: ... and at least: fewer would be one small batch for every way.
FEWEST = 8
#: A name and so many words are about 20 tokens with their query.
SHORT_WORDS = 2
#: So many characters are more than 512 tokens of any text here.
LONG_CHARS = 4_000


@dataclass(frozen=True)
class Kind:
    """A kind of documents."""

    name: str
    #: As tables have it.
    title: str
    #: Pairs to score while one of real documents is scored.
    pairs_factor: float
    #: Of a pair, about.
    tokens: int


#: Shortest first: a process's peak of memory then belongs to the documents it was read after.
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
        """Each document with the query."""
        return [(self.text, document) for document in self.documents]


class Collection:
    """A first-stage run with its texts: corpus.jsonl, queries.jsonl, and bm25.trec of a folder."""

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
        """Number of queries."""
        return len(self._run)

    def draw(self, kind: Kind, queries: int, candidates: int, seed: int) -> list[Query]:
        """So many queries, drawn at random, each with its candidates, no two of them equal.

        Equal pairs are scored once by some ways and twice by others.
        """
        drawn = random.Random(seed).sample(list(self._run), queries)
        return [
            Query(self._queries[query_id], self._cut(kind, self._run[query_id], candidates))
            for query_id in drawn
        ]

    def call(self, kind: Kind, documents: int, chance: random.Random) -> Query:
        """A query with so many documents drawn from the whole corpus: a call of any size."""
        query = chance.choice(list(self._queries.values()))
        return Query(query, self._cut(kind, chance.sample(self._ids, 2 * documents), documents))

    def _cut(self, kind: Kind, document_ids: list[str], count: int) -> tuple[str, ...]:
        texts = dict.fromkeys(self._text(kind, each) for each in document_ids)
        return tuple(list(texts)[:count])

    def _text(self, kind: Kind, document_id: str) -> str:
        text = self._documents[document_id]
        if kind.name == "short":
            # The name, because many descriptions begin with the same words.
            return f"{document_id}: {' '.join(text.split()[:SHORT_WORDS])}"
        if kind.name == "long":
            place = self._places[document_id]
            while len(text) < LONG_CHARS:
                place = (place + 1) % len(self._ids)
                text = f"{text} {self._documents[self._ids[place]]}"
        return text


@dataclass(frozen=True)
class Plan:
    """How much of a collection is scored, so that no text is ever scored twice by a way."""

    candidates: int
    queries_each: int
    repeats: int

    @classmethod
    def of(cls, pairs: int, repeats: int, queries: int) -> Plan:
        """About `pairs` pairs a repeat, of two queries or more; fewer if the queries run out."""
        candidates = min(CANDIDATES, max(FEWEST, pairs // 2))
        # One query is for the check before.
        most = (queries - 1) // repeats
        if most < 1:
            raise ValueError(f"{queries} queries are too few for {repeats} repeats")
        return cls(candidates, max(1, min(most, round(pairs / candidates))), repeats)


def samples(
    collection: Collection, kind: Kind, plan: Plan, seed: int
) -> tuple[list[Pair], list[list[Pair]]]:
    """The pairs of the check, and those of each repeat: different queries each time.

    An engine that remembers words it has seen must not profit from having seen these texts.
    """
    queries = 1 + plan.repeats * plan.queries_each
    drawn = collection.draw(kind, queries, plan.candidates, seed)
    repeats = [
        [pair for query in drawn[start : start + plan.queries_each] for pair in query.pairs]
        for start in range(1, queries, plan.queries_each)
    ]
    return drawn[0].pairs, repeats


def token_lengths(folder: Path, pairs: list[Pair]) -> list[int]:
    """Tokens of each pair after cutting, by the tokenizer of the model in `folder`."""
    return [len(encoding.ids) for encoding in tokenizer_of(folder).encode_batch(pairs)]


def tokenizer_of(folder: Path) -> Tokenizer:
    """The tokenizer of the model in `folder`, which cuts and does not pad."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    return tokenizer


def _texts(path: Path) -> dict[str, str]:
    """Texts by id; of a doubled id the last counts, as in `rerankq rescore --skip-invalid`."""
    lines = map(json.loads, path.read_text().splitlines())
    return {line["_id"]: f"{line.get('title') or ''} {line['text']}".strip() for line in lines}
