"""The one place that runs a model: pairs of texts in, raw logits out, in the caller's order.

It knows nothing of jobs, queries or ranks. How a batch is made: all pairs are tokenised once,
equal pairs are scored once, the longest come first (so that trouble with memory shows at once), and
a batch is cut where `longest pair x pairs` would exceed the token budget.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from billiard.exceptions import SoftTimeLimitExceeded

from contract.errors import BadScores, OutOfMemory, RerankError, ScoringError
from worker import memory, models

logger = logging.getLogger(__name__)

Pair = tuple[str, str]

#: Pairs tokenised in one call: bounds the tokenizer's own memory, long enough to fill its threads.
TOKENISE_AT_ONCE = 1024


@dataclass(frozen=True)
class Scores:
    """Logits of some pairs, in the caller's order, and what they cost."""

    logits: list[float]
    #: Number of pairs that differ from each other.
    unique_pairs: int
    #: Of the unique pairs, after cutting.
    tokens: int
    #: Pairs (not unique ones) that were longer than the model reads.
    truncated: int


@dataclass(frozen=True)
class _Tokens:
    """A tokenised pair."""

    features: dict[str, list[int]]
    length: int
    truncated: bool


class Scorer:
    """A warm cross-encoder. Safe to share between threads, which then take turns.

    `model` is a name on the Hugging Face hub, a local path, or `bundled`. `threads` are torch's,
    and torch has one number of them for the whole process. Raises `ModelUnavailable`.
    """

    backend = "torch"

    def __init__(
        self, model: str, device: str = "cpu", threads: int = 2, max_batch_tokens: int = 2_048
    ) -> None:
        torch.set_num_threads(threads)
        self.model = model
        self.device = device
        self.max_batch_tokens = max_batch_tokens
        self._encoder = models.load(model, device)
        self._tokenizer = self._encoder.tokenizer
        self._network = self._encoder.model.eval()
        self.max_length = int(self._encoder.max_seq_length or self._tokenizer.model_max_length)
        self.dtype = str(self._network.dtype).removeprefix("torch.")
        self._turn = threading.Lock()
        self._warm_up()

    def score(self, pairs: Sequence[Pair]) -> list[float]:
        """Raw logits of (query, document) pairs, in their order.

        Raises `ScoringError`, or `OutOfMemory`.
        """
        return self.score_counted(pairs).logits

    def score_counted(self, pairs: Sequence[Pair]) -> Scores:
        """As `score`, with counts of what was scored."""
        with self._turn:
            try:
                return self._score(pairs)
            # The time limit's exception comes at any moment, and is not the model's.
            except (RerankError, SoftTimeLimitExceeded):
                raise
            # Whatever a model raises is a failure to score; MemoryError must not reach Celery,
            # whose parent process would end with it.
            except Exception as error:
                raise _translated(self.model, error) from error

    def _score(self, pairs: Sequence[Pair]) -> Scores:
        places: dict[Pair, list[int]] = {}
        for place, pair in enumerate(pairs):
            places.setdefault((pair[0], pair[1]), []).append(place)
        unique = list(places)
        tokens = [tokenised for chunk in _chunks(unique) for tokenised in self._tokenise(chunk)]
        logits = self._run(tokens)
        bad = sum(not math.isfinite(logit) for logit in logits)
        if bad:
            cause = f"{bad} of {len(logits)} scores are not finite numbers"
            raise BadScores(failed(self.model, cause))
        in_order = [0.0] * len(pairs)
        for pair, logit in zip(unique, logits, strict=True):
            for place in places[pair]:
                in_order[place] = logit
        return Scores(
            logits=in_order,
            unique_pairs=len(unique),
            tokens=sum(tokenised.length for tokenised in tokens),
            truncated=sum(
                len(places[pair])
                for pair, tokenised in zip(unique, tokens, strict=True)
                if tokenised.truncated
            ),
        )

    def _tokenise(self, pairs: list[Pair]) -> list[_Tokens]:
        encoded = self._tokenizer(
            [query for query, _ in pairs],
            [document for _, document in pairs],
            truncation="longest_first",
            max_length=self.max_length,
        )
        columns = {name: encoded[name] for name in self._tokenizer.model_input_names}
        return [
            _Tokens(
                features={name: column[place] for name, column in columns.items()},
                length=len(columns["input_ids"][place]),
                truncated=bool(encoding.overflowing),
            )
            for place, encoding in enumerate(encoded.encodings)
        ]

    def _run(self, tokens: list[_Tokens]) -> list[float]:
        logits = [math.nan] * len(tokens)
        for batch in cut_batches([each.length for each in tokens], self.max_batch_tokens):
            scored = self._forward([tokens[place].features for place in batch])
            if len(scored) != len(batch):
                cause = f"{len(scored)} scores for {len(batch)} pairs"
                raise BadScores(failed(self.model, cause))
            for place, logit in zip(batch, scored, strict=True):
                logits[place] = logit
        return logits

    @torch.inference_mode()
    def _forward(self, batch: list[dict[str, list[int]]]) -> list[float]:
        padded = self._tokenizer.pad(batch, return_tensors="pt").to(self.device)
        logits: torch.Tensor = self._network(**padded).logits  # [pairs, 1]
        return logits[:, 0].float().tolist()

    def _warm_up(self) -> None:
        """One pass at the largest shape, so that lack of memory shows now and not in a job."""
        began = time.perf_counter()
        longest = " a" * self.max_length  # a word is at least one token
        pairs = max(1, self.max_batch_tokens // self.max_length)
        self.score([(f"query {number}", longest) for number in range(pairs)])
        logger.info("Warmed up %s in %.3fs", self.model, time.perf_counter() - began)


def cut_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Places of `lengths`, longest first, in groups where `longest x group <= max_tokens`.

    One place alone may exceed the budget: it still has to be scored.
    """
    longest_first = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    start = 0
    while start < len(longest_first):
        size = max(1, max_tokens // max(1, lengths[longest_first[start]]))
        yield longest_first[start : start + size]
        start += size


def _chunks(pairs: list[Pair]) -> Iterator[list[Pair]]:
    for start in range(0, len(pairs), TOKENISE_AT_ONCE):
        yield pairs[start : start + TOKENISE_AT_ONCE]


def _translated(model: str, error: Exception) -> RerankError:
    """Our error for one that the model raised."""
    if memory.ran_out(error):
        return OutOfMemory(failed(model, error))
    return ScoringError(failed(model, error))


def failed(model: str, cause: object) -> str:
    """The message of an error while scoring."""
    name = models.short_name(model)
    text = str(cause) or type(cause).__name__
    return f"Reranking failed for model {name}: {text}"
