"""An engine without a model, for testing programs that rerank: quick to start and deterministic.

Its model name is `stub`, or `stub:OPTION=NUMBER,...` (or `;` instead of `,`, in comma-separated
lists of names), with any of these options:

    scale             multiply each score, so that two stubs return different ones (default 1)
    pairs_per_s       score at most this many pairs per second
    bytes_per_token   use this much memory for each token of a batch while scoring it
    load_s            take this many seconds to load
    instant           with 1, score each pair by a hash of its texts, in under a microsecond
    poison_after      after this many pairs, fail as a process whose GPU has failed does

Each word counts as a token, and each pair has three special tokens, as in BERT. This module does
not import torch.
"""

from __future__ import annotations

import logging
import re
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from contract.models import STUB
from worker.engine import backoff, batches
from worker.engine.backoff import BatchBudget
from worker.engine.batches import ScoreArray
from worker.engine.pieces import Pieces, words_of
from worker.engine.protocol import BeforeBatch, EngineOutput, Pair, do_nothing
from worker.engine.statistics import BatchStatistics
from worker.engine.truncation import document_room, longest_first
from worker.engine.unusable import UnusableModel

logger = logging.getLogger(__name__)

MAX_LENGTH = 512
BATCH_TOKENS = 1024
#: Special tokens per pair, as many as BERT's [CLS] and two [SEP].
SPECIAL_TOKENS = 3
#: Scores of pairs with none and with all words of the query. The hash of the pair adds less than 1.
NO_WORDS, ALL_WORDS = -6.0, 5.0
#: Longest pause, in seconds, of a slow stub between two calls of `before_batch`.
STEP_S = 0.05


@dataclass(frozen=True)
class StubOptions:
    """Options that make a stub slow, memory-hungry or different; see the module's docstring."""

    scale: float = 1.0
    pairs_per_s: float | None = None
    bytes_per_token: float = 0.0
    load_s: float = 0.0
    instant: float = 0.0
    poison_after: float = float("inf")

    @classmethod
    def parse(cls, model: str) -> StubOptions:
        """Parse the options in the name of a stub. Raises `UnusableModel`."""
        head, _, text = model.partition(":")
        if head != STUB:
            raise UnusableModel(f"{STUB!r} has no revisions")
        known = [field.name for field in fields(cls)]
        given: dict[str, float] = {}
        for option in filter(None, re.split("[,;]", text)):
            name, _, value = option.partition("=")
            try:
                given[name] = float(value)
            except ValueError:
                given[name] = -1.0
            if name not in known or not 0 < given[name] < float("inf"):
                raise UnusableModel(
                    f"{option!r} is not a valid option of {STUB!r}",
                    f"Valid options are {', '.join(known)}, each followed by = and a number"
                    " greater than 0",
                )
        return cls(**given)


class StubEngine:
    """Scores a pair by the share of the query's words that occur in the document."""

    backend = STUB
    device = "cpu"
    dtype = "float32"
    labels = 1
    batches_at_once = 1

    def __init__(
        self,
        options: StubOptions | None = None,
        max_batch_tokens: int | None = None,
        max_length: int | None = None,
    ) -> None:
        self.options = options or StubOptions()
        self.max_length = min(max_length or MAX_LENGTH, MAX_LENGTH)
        self.budget = BatchBudget(max_batch_tokens or BATCH_TOKENS)
        self._scored = 0

    def __repr__(self) -> str:
        return f"StubEngine({asdict(self.options)})"

    def run(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch = do_nothing,
        statistics: BatchStatistics | None = None,
        *,
        small_batches: bool = False,
    ) -> EngineOutput:
        """Score the pairs, longest first; see `Engine`."""
        statistics = statistics or BatchStatistics()
        if self.options.instant:
            return _score_instantly(pairs, before_batch, statistics)
        read = [self._truncate(pair) for pair in pairs]
        lengths = [len(query) + len(document) + SPECIAL_TOKENS for query, document, _ in read]

        def score_batch(indexes: list[int]) -> ScoreArray:
            before_batch()
            self._count(len(indexes))
            tokens = sum(lengths[index] for index in indexes)
            held = np.ones(round(tokens * self.options.bytes_per_token), np.uint8)
            self._take_time(len(indexes), before_batch)
            statistics.batch_tokens.append(tokens)
            del held
            return np.array([self._score(*read[index][:2]) for index in indexes], np.float32)

        scores = np.empty(0, np.float32)
        if pairs:
            scores = backoff.score_with_backoff(
                lengths,
                self.budget.small() if small_batches else self.budget,
                lambda tokens, at_most: list(batches.make_batches(tokens, at_most)),
                lambda made, _: backoff.attempt_each(score_batch, made),
                statistics,
            )
        return EngineOutput(scores, sum(lengths), [lost for _, _, lost in read])

    def room(self, query: str) -> int:
        """Return how many words a passage may have next to this query."""
        return document_room(len(query.split()), self.max_length - SPECIAL_TOKENS)

    def pieces(self, text: str) -> Pieces:
        """Return the words of a text."""
        return words_of(text)

    def _count(self, pairs: int) -> None:
        """Fail from now on once this process has scored its number of pairs."""
        self._scored += pairs
        if self._scored > self.options.poison_after:
            raise RuntimeError("CUDA error: device-side assert triggered (a stub, not a GPU)")

    def _truncate(self, pair: Pair) -> tuple[list[str], list[str], int]:
        query, document = (text.split() for text in pair)
        room = self.max_length - SPECIAL_TOKENS
        query_words, document_words = longest_first(len(query), len(document), room)
        lost = len(query) + len(document) - query_words - document_words
        return query[:query_words], document[:document_words], lost

    def _score(self, query: list[str], document: list[str]) -> float:
        # Integers and single IEEE 754 operations only, for identical bits on every machine.
        wanted = set(map(_plain, query))
        found = len(wanted.intersection(map(_plain, document)))
        share = found / max(1, len(wanted))
        text = " ".join((*query, "\0", *document))
        tie_breaker = zlib.crc32(text.encode("utf-8", "surrogatepass")) / 2**32
        return self.options.scale * (NO_WORDS + (ALL_WORDS - NO_WORDS) * share + tie_breaker)

    def _take_time(self, pairs: int, before_batch: BeforeBatch) -> None:
        if self.options.pairs_per_s is None:
            return
        end = time.monotonic() + pairs / self.options.pairs_per_s
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, STEP_S))
            before_batch()


def _score_instantly(
    pairs: Sequence[Pair], before_batch: BeforeBatch, statistics: BatchStatistics
) -> EngineOutput:
    """Score all pairs in one batch; each counts as one token."""
    before_batch()
    statistics.batch_tokens.append(len(pairs))
    hashes = [zlib.crc32(f"{query}\0{text}".encode()) for query, text in pairs]
    scores = (np.array(hashes, np.float64) / 2**32).astype(np.float32)
    return EngineOutput(scores, len(pairs), [0] * len(pairs))


def load(model: str, max_batch_tokens: int | None, max_length: int | None) -> StubEngine:
    """Return the stub of this name. Raises `UnusableModel`."""
    logger.info("Loading cross-encoder model: %s", model)
    options = StubOptions.parse(model)
    time.sleep(options.load_s)
    logger.info("Cross-encoder loaded successfully in %.3fs", options.load_s)
    return StubEngine(options, max_batch_tokens, max_length)


def _plain(word: str) -> str:
    return word.strip(".,;:!?()[]\"'").lower()
