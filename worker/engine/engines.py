"""The two ways to score pairs: our own for BERT, and `CrossEncoder.predict` for all else.

Both take (query, document) pairs and give what they scored in the same order. `choose` takes the
first where it is proven to give the second's scores.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from worker.engine import backoff, batches, memory, padding, tuning
from worker.engine.backoff import Budget
from worker.engine.bert import Bert, supports
from worker.engine.lengths import whole_lengths
from worker.engine.linear import Int8Linear, Linear, PackedLinear
from worker.engine.threads import Threads, ahead, torch_threads, try_each
from worker.engine.tokens import PairTokenizer, PairTokens, SpecialIds
from worker.runtime.counters import Work
from worker.runtime.settings import cores

logger = logging.getLogger(__name__)

Pair = tuple[str, str]
#: Called before each batch; what it raises ends the run.
BeforeBatch = Callable[[], object]

#: How far a logit may be from `predict`'s. Half precision rounds to 3 digits, bfloat16 to 2.
TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-1}

#: Of mixed lengths, from nothing to more than any BERT reads.
PROBES: tuple[Pair, ...] = (
    ("how do I open a pdf", ""),
    ("Größe ändern", "日本語 and Ünïcode\twith  spaces, [SEP] and punctuation..."),
    ("how do I open a pdf", "a tool to open and print PDF files"),
    ("a mail server", "a mail server delivers messages to local users; " * 4),
    ("how do I open a pdf", "some words of a document that is too long to be read at all, " * 150),
)

#: In one batch, each but the longest is padded.
UNEQUAL_PROBES = [PROBES[0], *PROBES[2:4]]

#: Token budgets to choose from; the first is the one to beat.
CPU_BUDGETS = (1024, 512, 2048, 4096)
GPU_BUDGETS = (32_768, 16_384, 65_536)
#: On a GPU, pairs are tokenised in portions of this many, each while the one before is scored ...
PAIRS_AHEAD = 4_096
#: ... and many small steps cost more than some padding.
GPU_SLACK_TOKENS = 31

#: What another thread takes over should take it this long: waking it takes some milliseconds.
LEAST_SHARE_S = 0.005

#: Tokens of a batch where the last attempt may have died of its memory.
CAREFUL_BATCH_TOKENS = 512

#: For `predict` there is no measuring: this was within 3 % of the best for RoBERTa and BERT.
PREDICT_BATCH_TOKENS = 1024


def nothing() -> None:
    """What to do before a batch, unless told."""


@dataclass(frozen=True)
class Scored:
    """What became of some pairs, in their order."""

    #: [pairs], or [pairs, labels] for a model with several.
    scores: batches.Scores
    #: Tokens of all pairs, after cutting.
    tokens: int
    #: Which of the pairs were longer than the model reads.
    truncated: list[bool]


class Engine(Protocol):
    """A loaded model, for one caller at a time."""

    #: What scores, for a result's provenance.
    backend: str
    dtype: str
    threads: int
    #: Of tokens in a batch.
    budget: Budget

    @property
    def batches_at_once(self) -> int:
        """Number of batches that are scored at the same time."""

    def run(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch = nothing,
        work: Work | None = None,
        *,
        careful: bool = False,
    ) -> Scored:
        """Score the pairs, with the longest first; `careful` in small batches.

        What it takes is noted in `work`.
        """


def budget_of(engine: Engine, careful: bool) -> Budget:
    """The engine's own, or a small one."""
    return Budget(min(engine.budget.tokens, CAREFUL_BATCH_TOKENS)) if careful else engine.budget


def choose(
    encoder: CrossEncoder, *, int8: bool, threads: int | None, max_batch_tokens: int | None
) -> Engine:
    """The fastest engine that gives the scores of `encoder.predict`, or their likeness in int8.

    What is None is found by measuring. Raises `ValueError` if there is no int8 for this model.
    """
    predict = PredictEngine(encoder, threads or cores(), max_batch_tokens or PREDICT_BATCH_TOKENS)
    if not (supports(encoder) and gives_logits(encoder)):
        logger.info("No fast path for this %s: scoring by predict", type(encoder.model).__name__)
        return _exact(predict, int8)
    fast = _proven(encoder, predict, threads or cores())
    if fast is None:
        return _exact(predict, int8)
    if int8:
        if not _packable(encoder):
            raise ValueError("8-bit weights are made of float32 weights on a CPU only")
        fast = BertEngine(encoder, Int8Linear, fast.threads)
    fast.tune(threads, max_batch_tokens)
    return fast


def _proven(encoder: CrossEncoder, predict: PredictEngine, threads: int) -> BertEngine | None:
    """Return the fastest of our engines that gives the scores of `predict`, or None.

    Packed layers use private operators of torch, which another version may lack or refuse: what
    they raise is a reason to take plain layers.
    """
    expected = predict.run(PROBES).scores
    reasons = []
    for linear in linears_for(encoder):
        try:
            fast = BertEngine(encoder, linear, threads)
            apart = float(np.max(np.abs(fast.run(PROBES).scores - expected)))
        except Exception as error:
            if linear is Linear and memory.ran_out(error):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            reasons.append(f"it fails with {linear.__name__} ({reason})")
            continue
        if apart <= TOLERANCES[fast.dtype]:
            for reason in reasons:
                logger.warning("The fast path uses plain layers, which are slower: %s", reason)
            logger.info("The fast path gives the scores of predict, within %.1e", apart)
            return fast
        reasons.append(
            f"off by {apart:.1e} with {linear.__name__} (more than {TOLERANCES[fast.dtype]:g})"
        )
    logger.warning("The fast path is not used: %s", "; ".join(reasons))
    return None


def _exact(predict: PredictEngine, int8: bool) -> PredictEngine:
    if int8:
        raise ValueError("there is an int8 form of plain BERT classifiers only")
    predict.prove_batches()
    return predict


def linears_for(encoder: CrossEncoder) -> tuple[type[Linear], ...]:
    """Return the exact kinds of linear layers for the model's device and precision, best first."""
    packed = _packable(encoder) and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return (PackedLinear, Linear) if packed else (Linear,)


def _packable(encoder: CrossEncoder) -> bool:
    return bool(encoder.model.device.type == "cpu" and encoder.model.dtype == torch.float32)


class BertEngine:
    """Our own BERT, in threads that score a batch each.

    That keeps two cores busier than two threads on one batch do: most operations on some hundred
    tokens are too small to be shared.
    """

    backend = "rerankq"

    def __init__(self, encoder: CrossEncoder, linear: type[Linear], threads: int) -> None:
        self.dtype = "int8" if linear is Int8Linear else dtype_of(encoder)
        self.threads = threads
        self._bert = Bert(encoder.model, linear)
        self._max_length = max_length(encoder)
        self._tokenizer = PairTokenizer(encoder.tokenizer, self._max_length)
        self._special = SpecialIds(encoder.tokenizer)
        self._on_gpu = self._bert.device.type != "cpu"
        self._budgets = GPU_BUDGETS if self._on_gpu else CPU_BUDGETS
        self.budget = Budget(self._budgets[0])
        self._least_share = 1
        self._pool = Threads(threads)

    @property
    def batches_at_once(self) -> int:
        """Number of batches that are scored at the same time: one in each thread."""
        return self.threads

    def run(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch = nothing,
        work: Work | None = None,
        *,
        careful: bool = False,
    ) -> Scored:
        """Score the pairs, sorted by tokens over all of them (on a GPU: over some thousand)."""
        work = work or Work()
        portion = PAIRS_AHEAD if self._on_gpu else max(1, len(pairs))
        portions = (pairs[at : at + portion] for at in range(0, len(pairs), portion))
        tokenised = (ahead if self._on_gpu else map)(self._tokenizer.tokenise, portions)
        tokens: list[PairTokens] = []
        scores = [np.empty(0, np.float32)]
        for some in tokenised:
            tokens += some
            scores.append(self._score(some, before_batch, budget_of(self, careful), work))
        return Scored(
            np.concatenate(scores),
            sum(pair.length for pair in tokens),
            [pair.truncated for pair in tokens],
        )

    def tune(self, threads: int | None, max_batch_tokens: int | None) -> None:
        """Take these, or measure which number of threads and which token budget is the fastest."""

        def rehearse(budget: int) -> int:
            return self._rehearse([budget])

        self.budget = Budget(max_batch_tokens or tuning.fastest(self._budgets, rehearse))
        if threads is None and self.threads > 1:
            # Where two logical cores are one, half as many threads may do as well.
            choices = (max(1, self.threads // 2), self.threads)
            self.threads = tuning.fastest(choices, self._rehearse_threads)
            self._pool = Threads(self.threads)
        if self.threads > 1:
            token_s = tuning.seconds_per_token(min(CPU_BUDGETS), rehearse)
            self._least_share = round(LEAST_SHARE_S / token_s)
        logger.info("%d threads, batches of %d tokens", self.threads, self.budget.full)

    def _score(
        self,
        tokens: Sequence[PairTokens],
        before_batch: BeforeBatch,
        budget: Budget,
        work: Work,
    ) -> batches.Scores:
        def cut(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
            return list(batches.cut(lengths, max_tokens, self.threads, self._least_share))

        def forward(places: list[int]) -> batches.Scores:
            before_batch()
            return self._forward([tokens[at] for at in places], work)

        def try_all(made: backoff.Batches, alone: bool) -> list[backoff.Tried]:
            return self._pool.try_each(forward, made, alone)

        lengths = [pair.length for pair in tokens]
        return backoff.score(lengths, budget, cut, try_all, work)

    def _forward(self, pairs: Sequence[PairTokens], work: Work) -> batches.Scores:
        batch = batches.lay_out(pairs, self._special, GPU_SLACK_TOKENS if self._on_gpu else 0)
        scores: batches.Scores = self._bert(batch).numpy()
        work.batch_tokens.append(len(batch.ids))
        return scores

    def _rehearse(self, budgets: Sequence[int]) -> int:
        """Score a batch of each budget, of no texts in particular; gives the number of tokens."""
        made_up = [self._make_up(budget) for budget in budgets]
        self._pool.each(partial(self._forward, work=Work()), made_up)
        return sum(pair.length for pairs in made_up for pair in pairs)

    def _make_up(self, tokens: int) -> list[PairTokens]:
        """Pairs of about so many tokens together, as long as passages are: 40 to 140, 90 a mean."""
        room = self._max_length - 3
        query = np.repeat(self._special.sep, min(8, room // 2))
        sizes = [min(size, room - len(query)) for size in range(129, 29, -10)]
        pairs = [PairTokens(query, np.repeat(self._special.sep, size), False) for size in sizes]
        return [pair for pair in pairs for _ in range(max(1, round(tokens / 900)))]

    def _rehearse_threads(self, threads: int) -> int:
        self.threads = threads
        self._pool = Threads(threads)
        return self._rehearse([min(CPU_BUDGETS)] * threads)


class PredictEngine:
    """sentence-transformers itself, for every model that it can load."""

    backend = "sentence-transformers"
    batches_at_once = 1

    def __init__(self, encoder: CrossEncoder, threads: int, max_batch_tokens: int) -> None:
        self.dtype = dtype_of(encoder)
        self.threads = threads
        self.budget = Budget(max_batch_tokens)
        self._encoder = encoder
        self._max_length = max_length(encoder)
        self._one_by_one = False
        logits = gives_logits(encoder)
        self._activation = torch.nn.Identity() if logits else encoder.activation_fn

    def run(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch = nothing,
        work: Work | None = None,
        *,
        careful: bool = False,
    ) -> Scored:
        """Score the pairs, sorted by tokens over all of them."""
        work = work or Work()

        def cut(tokens: Sequence[int], max_tokens: int) -> list[list[int]]:
            if self._one_by_one:
                max_tokens = 1
            return list(batches.cut(tokens, max_tokens, padded=True))

        def predict(places: list[int]) -> batches.Scores:
            before_batch()
            scores = self._predict_batch([pairs[place] for place in places])
            work.batch_tokens.append(len(places) * max(tokens[place] for place in places))
            return scores

        tokens, truncated = self._measure(pairs)
        if not pairs:
            return Scored(np.empty(0, np.float32), 0, [])
        with torch_threads(self.threads):
            scores = backoff.score(
                tokens,
                budget_of(self, careful),
                cut,
                lambda made, _: try_each(predict, made),
                work,
            )
        return Scored(scores, sum(tokens), truncated)

    def prove_batches(self) -> None:
        """Score pairs one at a time from now on if batches do not give the scores of each alone."""
        with torch_threads(self.threads):
            why = padding.depends(
                self._encoder, UNEQUAL_PROBES, self._predict, TOLERANCES[self.dtype]
            )
        if why is not None:
            self._one_by_one = True
            logger.warning(
                "In a batch, this %s does not give the scores that it gives each pair alone (%s):"
                " pairs are scored one at a time, which is slower",
                *(type(self._encoder.model).__name__, why),
            )

    def _predict_batch(self, pairs: list[Pair]) -> batches.Scores:
        try:
            return self._predict(pairs)
        except ValueError as error:
            # T5 and BART score only batches in which all pairs have the same number of end tokens,
            # and a text may spell one out.
            if len(pairs) == 1 or memory.ran_out(error):
                raise
            return np.concatenate([self._predict([pair]) for pair in pairs])

    def _predict(self, pairs: list[Pair]) -> batches.Scores:
        scores: batches.Scores = self._encoder.predict(
            pairs, batch_size=len(pairs), activation_fn=self._activation, show_progress_bar=False
        )
        return scores

    def _measure(self, pairs: Sequence[Pair]) -> tuple[list[int], list[bool]]:
        """How many tokens each pair has after cutting, and whether it was cut."""
        whole: list[int] = []
        for start in range(0, len(pairs), PAIRS_AHEAD):
            whole += whole_lengths(self._encoder, pairs[start : start + PAIRS_AHEAD])
        limit = self._max_length
        return [min(tokens, limit) for tokens in whole], [tokens > limit for tokens in whole]


def gives_logits(encoder: CrossEncoder) -> bool:
    """Whether the model's score is its logit: not if it has an activation of its own making."""
    return isinstance(encoder.activation_fn, torch.nn.Identity | torch.nn.Sigmoid)


def max_length(encoder: CrossEncoder) -> int:
    """Tokens of a pair that the model reads."""
    return int(encoder.tokenizer.model_max_length)


def dtype_of(encoder: CrossEncoder) -> str:
    """The precision of the model's weights, as in `float32`."""
    return str(encoder.model.dtype).removeprefix("torch.")
