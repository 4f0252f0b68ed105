"""A score is the model's raw logit, whatever the order, batch or thread of its pair."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import AutoTokenizer

from contract.errors import (
    BadScores,
    ModelUnavailable,
    OutOfMemory,
    ScoringError,
    TimeLimitExceeded,
)
from tests.processes import limited_memory, linux_only
from tests.unit import tiny_models
from tests.unit.predict_scores import logits
from worker.engine import Scorer, load
from worker.engine.batches import ScoreArray
from worker.engine.choice import exact_linears
from worker.engine.fast_engine import FastEngine
from worker.engine.model_paths import bundled_path
from worker.engine.pair_layout import PairTokens
from worker.engine.protocol import BeforeBatch, EngineOutput, Pair, do_nothing
from worker.engine.statistics import BatchStatistics
from worker.engine.stub import StubEngine
from worker.engine.threads import torch_threads
from worker.engine.tokens import TEXTS_AT_ONCE

TOLERANCE = 1e-4

QUERY = "how do I open a pdf"
#: From empty to longer than the model's maximum length.
DOCUMENTS = (
    "pdf",
    "",
    "a tool to open pdf files",
    "  spaces around, and a\ttab\n",
    "Das ist ein Test über PDF-Dateien",
    "日本語のPDFを開く",
    "открыть файл",
    "🙂🎉 pdf 👩‍👩‍👧",
    "the mail server delivers messages to local users " * 6,
    "open a pdf file with a password " * 40,
    " ".join(f"word{number}" for number in range(600)),
)
PAIRS: list[Pair] = [
    *((QUERY, document) for document in DOCUMENTS),
    ("", "a document without a query"),
    ("a query longer than the model reads " * 100, "pdf"),
    ("a query longer than the model reads " * 100, "and a document too " * 200),
]

#: Logits of the bundled model. They change only if the model or its input changes.
GOLDEN: list[tuple[str, str, float]] = [
    ("edit pictures", "a program that edits images", 6.020),
    ("edit pictures", "a mail server for local delivery", -6.528),
    ("combine several pdf documents into one", "merge PDF files into a single file", 4.868),
    ("convert audio files", "", -6.603),
    ("what is a compiler", "A compiler translates source code into machine code.", 4.751),
]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    """Return a tuned scorer, as in a worker with default settings."""
    return load("bundled")


def small(model: str = "bundled", **given: Any) -> Scorer:
    """Return a scorer that was not tuned."""
    return load(model, **({"threads": 1, "max_batch_tokens": 1_024} | given))


@pytest.fixture(scope="module")
def expected() -> list[float]:
    """Return the scores of sentence-transformers for `PAIRS`."""
    return predicted(str(bundled_path()), PAIRS)


def predicted(path: str, pairs: Sequence[Pair]) -> list[float]:
    return [float(score) for score in logits(path, pairs)]


def close(scores: Sequence[float]) -> object:
    return pytest.approx(list(scores), abs=TOLERANCE)


class StruckByTimeLimit(Exception):
    """An error like Celery's time limit, which may occur at any moment and is not the model's."""


# Parity


@pytest.mark.arithmetic
def test_scores_are_those_of_sentence_transformers(scorer: Scorer, expected: list[float]) -> None:
    assert scorer.score(PAIRS) == close(expected)


@pytest.mark.parametrize(("longer", "shorter"), [(600, 520), (520, 600)])
def test_a_query_that_is_longer_than_the_model_reads_leaves_room_for_the_document(
    scorer: Scorer, longer: int, shorter: int
) -> None:
    # Both are truncated, and the longer one has one token more.
    pairs = [("open a pdf " * (longer // 3), "a pdf viewer " * (shorter // 3))]
    assert scorer.score(pairs) == close(predicted(str(bundled_path()), pairs))


def test_the_bundled_model_is_read_without_an_activation() -> None:
    encoder = CrossEncoder(str(bundled_path()), device="cpu")
    assert isinstance(encoder.activation_fn, torch.nn.Identity)


def test_an_activation_in_the_models_config_does_not_touch_the_logits(tmp_path: Path) -> None:
    # sentence-transformers adds a sigmoid to a BERT without an activation.
    path = tiny_models.bert(tmp_path)
    scores = small(path).score(PAIRS)
    assert scores == close(predicted(path, PAIRS))
    assert not all(0 <= score <= 1 for score in scores)


def test_a_model_without_token_types_scores_as_in_sentence_transformers(tmp_path: Path) -> None:
    path = tiny_models.roberta(tmp_path)
    pairs = [
        ("the cat", "sat on the mat"),
        ("dog", ""),
        ("the", "cat " * 100),
        ("cat on mat", "dog"),
    ]
    scores = small(path).score_pairs(pairs)
    assert scores.logits == close(predicted(path, pairs))
    assert sum(scores.truncated) == 1


@pytest.mark.arithmetic
@pytest.mark.parametrize(("query", "document", "logit"), GOLDEN)
def test_the_bundled_models_scores_do_not_drift(
    scorer: Scorer, query: str, document: str, logit: float
) -> None:
    assert scorer.score([(query, document)]) == pytest.approx([logit], abs=1e-3)


def test_half_precision_weights_are_run_in_single_precision_on_a_cpu(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path, change=tiny_models.halve)
    assert '"dtype": "float16"' in (tmp_path / "config.json").read_text()
    scorer = small(path)
    assert scorer.dtype == "float32"
    encoder = CrossEncoder(path, device="cpu", model_kwargs={"dtype": torch.float32})
    encoder.activation_fn = torch.nn.Identity()
    assert scorer.score(PAIRS) == close(encoder.predict(PAIRS))


# Order and equal pairs


def test_scores_come_in_the_callers_order(scorer: Scorer, expected: list[float]) -> None:
    places = list(range(len(PAIRS)))
    random.Random(7).shuffle(places)
    assert scorer.score([PAIRS[place] for place in places]) == close(
        [expected[place] for place in places]
    )


def test_more_texts_than_are_tokenized_at_once_keep_their_order(scorer: Scorer) -> None:
    pairs = [(QUERY, f"package number {number}") for number in range(TEXTS_AT_ONCE + 5)]
    counted = scorer.score_pairs(pairs)
    assert counted.unique_pairs == len(pairs)
    assert scorer.score(pairs[::-1]) == close(counted.logits[::-1])
    # Lengths on either side of the boundary.
    assert scorer.score(pairs[-7:-3]) == close(counted.logits[-7:-3])


def test_equal_pairs_are_scored_once_and_all_get_the_score(
    scorer: Scorer, expected: list[float]
) -> None:
    counted = scorer.score_pairs([PAIRS[2], PAIRS[0], PAIRS[2], PAIRS[1], PAIRS[0], PAIRS[2]])
    assert counted.unique_pairs == 3
    assert counted.logits == close([expected[place] for place in (2, 0, 2, 1, 0, 2)])
    assert counted.logits[0] == counted.logits[2] == counted.logits[5]


def test_the_same_document_under_two_queries_is_two_pairs(scorer: Scorer) -> None:
    counted = scorer.score_pairs([("edit pictures", "pdf"), (QUERY, "pdf")])
    assert counted.unique_pairs == 2
    assert abs(counted.logits[0] - counted.logits[1]) > 0.1


def test_query_and_document_are_not_interchangeable(scorer: Scorer) -> None:
    assert scorer.score_pairs([("pdf", QUERY), (QUERY, "pdf")]).unique_pairs == 2


def test_pairs_that_look_alike_when_joined_are_two(scorer: Scorer) -> None:
    assert scorer.score_pairs([("a b", "c"), ("a", "b c")]).unique_pairs == 2


def test_no_pairs_give_no_scores(scorer: Scorer) -> None:
    counted = scorer.score_pairs([])
    assert (counted.logits, counted.unique_pairs, counted.tokens, sum(counted.truncated)) == (
        [],
        0,
        0,
        0,
    )


# Batches


@pytest.mark.arithmetic
@pytest.mark.parametrize("place", range(len(PAIRS)))
def test_a_score_does_not_depend_on_what_it_was_batched_with(
    scorer: Scorer, expected: list[float], place: int
) -> None:
    assert scorer.score([PAIRS[place]]) == close([expected[place]])


@pytest.mark.arithmetic
@pytest.mark.parametrize("max_batch_tokens", [1, 700, 5_000])
@pytest.mark.parametrize("threads", [1, 2])
def test_any_token_budget_and_number_of_threads_gives_the_same_scores(
    bundled: CrossEncoder, expected: list[float], threads: int, max_batch_tokens: int
) -> None:
    engine = FastEngine(bundled, exact_linears(bundled)[0], threads)
    engine.tune(threads, max_batch_tokens)
    assert Scorer(engine, "bundled").score(PAIRS) == close(expected)


# Counts


@pytest.mark.parametrize(
    ("words", "tokens", "truncated"), [(507, 511, 0), (508, 512, 0), (509, 512, 1), (5_000, 512, 1)]
)
def test_a_pair_is_truncated_from_the_first_token_too_many(
    scorer: Scorer, words: int, tokens: int, truncated: int
) -> None:
    # One token of the query, three special tokens, and one for each word.
    counted = scorer.score_pairs([("a", "a " * words)])
    assert (counted.tokens, sum(counted.truncated)) == (tokens, truncated)


def test_tokens_are_counted_for_unique_pairs_after_cutting(scorer: Scorer) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bundled_path())
    queries, documents = zip(*PAIRS, strict=True)
    by_hand = sum(
        len(ids)
        for ids in tokenizer(
            list(queries), list(documents), truncation="longest_first", max_length=512
        )["input_ids"]
    )
    assert scorer.score_pairs(PAIRS).tokens == by_hand
    assert scorer.score_pairs(PAIRS * 2).tokens == by_hand


def test_every_truncated_pair_counts_also_if_it_is_scored_once(scorer: Scorer) -> None:
    counted = scorer.score_pairs([(QUERY, "long " * 600), (QUERY, "pdf"), (QUERY, "long " * 600)])
    assert (counted.unique_pairs, sum(counted.truncated)) == (2, 2)


def test_it_is_told_which_pairs_were_truncated_in_the_callers_order(scorer: Scorer) -> None:
    long, short = (QUERY, "long " * 600), (QUERY, "pdf")
    counted = scorer.score_pairs([short, long, short, short, long])
    assert counted.truncated == [False, True, False, False, True]


def test_a_model_reads_no_more_tokens_than_it_has_positions_for(tmp_path: Path) -> None:
    # The bundled tokenizer states 512.
    scorer = small(tiny_models.bert(tmp_path, max_position_embeddings=64))
    counted = scorer.score_pairs([(QUERY, "long " * 600)])
    assert (scorer.max_length, counted.tokens, sum(counted.truncated)) == (64, 64, 1)


def test_a_scorer_says_what_it_runs_on(scorer: Scorer) -> None:
    assert (scorer.model, scorer.backend, scorer.device) == ("bundled", "rerankq", "cpu")
    assert (scorer.dtype, scorer.max_length, scorer.labels) == ("float32", 512, 1)


def test_a_scorer_without_a_fast_path_says_so(tmp_path: Path) -> None:
    scorer = small(tiny_models.bert(tmp_path, hidden_act="relu"))
    assert (scorer.backend, scorer.dtype) == ("sentence-transformers", "float32")


@pytest.mark.arithmetic
@pytest.mark.parametrize(
    ("model", "dtype", "told", "apart"),
    [
        ("bundled", "float32", "float32", 1e-4),
        pytest.param(*("bundled", "bfloat16", "bfloat16", 0.5), marks=pytest.mark.half_precision),
    ],
)
def test_a_scorer_says_in_which_precision_it_scores(
    expected: list[float], model: str, dtype: str | None, told: str, apart: float
) -> None:
    scorer = small(model, dtype=dtype)
    assert (scorer.model, scorer.dtype) == (model, told)
    assert scorer.score(PAIRS) == pytest.approx(expected, abs=apart)


# Labels


def test_a_model_with_several_scores_a_pair_gives_all_of_them(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path, num_labels=3)
    scorer = small(path)
    counted = scorer.score_pairs([*PAIRS, PAIRS[0]])
    reference = CrossEncoder(path, device="cpu").predict([*PAIRS, PAIRS[0]])
    assert scorer.labels == 3
    assert np.array(counted.logits) == pytest.approx(reference, abs=TOLERANCE)
    assert [len(row) for row in counted.logits] == [3] * (len(PAIRS) + 1)
    assert counted.unique_pairs == len(PAIRS)
    assert scorer.score([]) == []


# Threads


def test_threads_scoring_at_once_each_get_their_own_scores(
    scorer: Scorer, expected: list[float]
) -> None:
    together = threading.Barrier(8)

    def score(turn: int) -> list[float]:
        mine = PAIRS[turn:] + PAIRS[:turn]
        together.wait()
        return [score for _ in range(3) for score in scorer.score(mine)]

    with ThreadPoolExecutor(8) as threads:
        scores = list(threads.map(score, range(8)))
    for turn, each in enumerate(scores):
        assert each == close((expected[turn:] + expected[:turn]) * 3)


class CountsThreads(StubEngine):
    """Records how many threads use it at the same time."""

    inside = 0
    most = 0

    def run(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch = do_nothing,
        statistics: BatchStatistics | None = None,
        *,
        small_batches: bool = False,
    ) -> EngineOutput:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            return super().run(pairs, before_batch, statistics, small_batches=small_batches)
        finally:
            self.inside -= 1


def test_threads_take_turns_with_the_model() -> None:
    engine = CountsThreads()
    scorer = Scorer(engine, "mine")
    together = threading.Barrier(8)

    def score(_: int) -> list[float]:
        together.wait()
        return scorer.score(PAIRS)

    with ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(score, range(8)))) == 8
    assert engine.most == 1


@pytest.mark.parametrize("make", [tiny_models.bert, tiny_models.roberta])
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_torchs_own_number_of_threads_is_left_as_it_was(
    tmp_path: Path, make: Callable[[Path], str], threads: int | None
) -> None:
    with torch_threads(3):
        scorer = load(make(tmp_path), threads=threads, max_batch_tokens=64)
        assert torch.get_num_threads() == 3
        scorer.score([("the cat", "sat on the mat"), ("the dog", "sat")] * 20)
        assert torch.get_num_threads() == 3


# Failures


def test_a_model_that_gives_no_finite_scores_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    # Each weight is a number, but their products with the input are not.
    path = tiny_models.bert(tmp_path / "spoilt", change=tiny_models.fill_head(3e38))
    with pytest.raises(
        ModelUnavailable,
        match=r"spoilt' cannot be used: 3 of 3 scores are not finite",
    ):
        small(path)


class AnswersFor(StubEngine):
    """Returns scores for a number of pairs of its choice."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.answers = answers

    def run(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch = do_nothing,
        statistics: BatchStatistics | None = None,
        *,
        small_batches: bool = False,
    ) -> EngineOutput:
        scored = super().run(pairs, before_batch, statistics, small_batches=small_batches)
        return replace(scored, scores=np.resize(scored.scores, self.answers))


@pytest.mark.parametrize("answers", [0, 3, 5])
def test_a_wrong_number_of_scores_is_a_failure_that_says_so(answers: int) -> None:
    scorer = Scorer(AnswersFor(answers), "mine")
    with pytest.raises(
        BadScores,
        match=rf"^Reranking failed for model mine: .* returned {answers} scores for 4 pairs$",
    ):
        scorer.score([*PAIRS[:4], PAIRS[0]])


class LosesOne(FastEngine):
    """Returns one score too few for each batch."""

    def _forward(self, pairs: Sequence[PairTokens], statistics: BatchStatistics) -> ScoreArray:
        return super()._forward(pairs, statistics)[1:]


def test_a_batch_that_loses_a_score_is_a_failure_that_names_the_model(
    bundled: CrossEncoder,
) -> None:
    scorer = Scorer(LosesOne(bundled, exact_linears(bundled)[0], 1), "mine")
    with pytest.raises(
        BadScores,
        match=r"^Reranking failed for model mine: .* returned 3 scores for 4 pairs$",
    ):
        scorer.score(PAIRS[:4])


class GivesNaN(StubEngine):
    def run(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch = do_nothing,
        statistics: BatchStatistics | None = None,
        *,
        small_batches: bool = False,
    ) -> EngineOutput:
        scored = super().run(pairs, before_batch, statistics, small_batches=small_batches)
        scored.scores[-1] = np.nan
        return scored


def test_a_score_that_is_no_number_fails_all() -> None:
    scorer = Scorer(GivesNaN(), "mine")
    with pytest.raises(BadScores, match=r"mine: 1 of 3 scores is not finite \(NaN or infinity\)$"):
        scorer.score(PAIRS[:3])


def test_a_foreign_error_while_scoring_becomes_ours_with_its_cause(scorer: Scorer) -> None:
    with pytest.raises(
        ScoringError, match=r"^Reranking failed for model bundled: .*Text"
    ) as caught:
        scorer.score([(QUERY, "a lone surrogate: \ud800")])
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_scorer_works_on_after_a_failure(scorer: Scorer, expected: list[float]) -> None:
    with pytest.raises(ScoringError):
        scorer.score([(QUERY, "\ud800")])
    assert scorer.score(PAIRS) == close(expected)


class RunsOutOfTime(StubEngine):
    """Raises Celery's time limit once it is `late`."""

    late = False

    def run(
        self,
        pairs: Sequence[Pair],
        before_batch: BeforeBatch = do_nothing,
        statistics: BatchStatistics | None = None,
        *,
        small_batches: bool = False,
    ) -> EngineOutput:
        if self.late:
            raise StruckByTimeLimit
        return super().run(pairs, before_batch, statistics, small_batches=small_batches)


def test_the_time_limit_is_no_failure_of_the_model_and_frees_its_turn() -> None:
    engine = RunsOutOfTime()
    scorer = Scorer(engine, "mine", passed_through=(StruckByTimeLimit,))
    expected = scorer.score(PAIRS)
    engine.late = True
    with pytest.raises(StruckByTimeLimit):
        scorer.score(PAIRS)
    engine.late = False
    assert scorer.score(PAIRS) == expected


def test_an_exception_that_is_not_to_pass_through_is_a_failure_of_the_model() -> None:
    engine = RunsOutOfTime()
    engine.late = True
    with pytest.raises(ScoringError, match=r"^Reranking failed for model mine: StruckByTimeLimit"):
        Scorer(engine, "mine").score(PAIRS)


class RunsOutOfTimeInThreads(FastEngine):
    """Raise the time limit in the main thread once two threads are scoring."""

    late = False
    together: threading.Barrier

    def _forward(self, pairs: Sequence[PairTokens], statistics: BatchStatistics) -> ScoreArray:
        if self.late and self.together.wait(30) == 0:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        return super()._forward(pairs, statistics)


@pytest.fixture
def time_limit() -> Iterator[None]:
    """Raise the time limit's exception on SIGUSR1, as in a Celery child."""

    def strike(_number: int, _frame: FrameType | None) -> None:
        raise StruckByTimeLimit

    before = signal.signal(signal.SIGUSR1, strike)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("time_limit")
def test_the_time_limit_frees_the_turn_also_while_two_threads_score(
    bundled: CrossEncoder, expected: list[float]
) -> None:
    # Given two threads that are amid a batch each
    engine = RunsOutOfTimeInThreads(bundled, exact_linears(bundled)[0], threads=2)
    scorer = Scorer(engine, "bundled", passed_through=(StruckByTimeLimit,))
    engine.together = threading.Barrier(2)
    engine.late = True
    # When the time limit strikes
    with torch_threads(3):
        with pytest.raises(StruckByTimeLimit):
            scorer.score([(QUERY, "one"), (QUERY, "two")])
        assert torch.get_num_threads() == 3
    # Then the next call has its turn
    engine.late = False
    assert scorer.score(PAIRS) == close(expected)


# Memory

#: Of about 512 tokens each.
LONG_PAIRS: list[Pair] = [(QUERY, f"{number} " * 600) for number in range(16)]


@linux_only
@pytest.mark.parametrize("threads", [1, 2])
def test_with_memory_for_a_part_of_the_batch_scores_are_the_same_bits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, threads: int
) -> None:
    # Given 16 pairs x 512 tokens x 4,096 features x 4 bytes: one layer takes 128 MiB
    tiny_models.bert(tmp_path / "large", intermediate_size=4_096)
    scorer = small(str(tmp_path / "large"), threads=threads, max_batch_tokens=8_192)
    budget = scorer.engine.budget
    expected = scorer.score(LONG_PAIRS)
    assert budget.tokens == budget.full
    # When there is half of that, or less
    with (
        limited_memory([os.getpid()], 64 * 2**20),
        caplog.at_level("WARNING", "worker.engine.backoff"),
    ):
        scores = scorer.score(LONG_PAIRS)
    # Then batches are halved until they fit, and scores are what they were
    assert "Out of memory with " in caplog.text
    assert scores == expected
    # And the smaller size is remembered, with or without lack of memory
    remembered = budget.tokens
    assert 512 <= remembered < budget.full == 8_192
    assert scorer.score(LONG_PAIRS) == expected
    assert budget.tokens == remembered


@linux_only
def test_too_little_memory_for_a_single_pair_is_a_failure_that_may_pass(tmp_path: Path) -> None:
    # Given a model in which a pair takes 128 MiB
    tiny_models.bert_of_large_pairs(tmp_path / "large")
    scorer = small(str(tmp_path / "large"), max_batch_tokens=4_096)
    pairs = [(QUERY, "word " * 5_000)]
    expected = scorer.score(pairs)
    with (
        limited_memory([os.getpid()], 32 * 2**20),
        pytest.raises(
            OutOfMemory, match=r"^Reranking failed for model large: .*allocate"
        ) as caught,
    ):
        scorer.score(pairs)
    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, RuntimeError)
    # Then the next job is scored as ever
    assert scorer.score(pairs) == expected


@linux_only
def test_a_scorer_works_on_after_memory_ran_out_at_a_new_size(expected: list[float]) -> None:
    # Given no memory at all for batches of sizes that were never scored before
    scorer = small(max_batch_tokens=20_000)
    pairs = [(QUERY, f"{number} pdf " * number) for number in range(37)]

    def score_twice() -> list[list[float]]:
        with limited_memory([os.getpid()], 0), suppress(OutOfMemory):  # not another failure
            scorer.score(pairs)
        return [scorer.score(PAIRS), scorer.score(pairs)]

    # When there is memory again, in the same thread (which is not that of the other tests)
    with ThreadPoolExecutor(1) as thread:
        scores, others = thread.submit(score_twice).result()
    # Then scores are right
    assert scores == close(expected)
    assert others == close(predicted(str(bundled_path()), pairs))


@pytest.mark.arithmetic
def test_a_score_is_the_same_to_the_last_bit_whatever_it_is_scored_with(scorer: Scorer) -> None:
    """Check that a job scored again in smaller batches has the same scores."""
    pairs = [(f"query {n % 7}", "some words of a document " * (n % 23)) for n in range(46)]
    together = scorer.score(pairs)

    alone = [scorer.score([pair])[0] for pair in pairs]
    otherwise = small(threads=2, max_batch_tokens=200).score(pairs[::-1])[::-1]
    careful = scorer.score_pairs(pairs, small_batches=True).logits

    assert alone == together
    assert otherwise == together
    assert careful == together


def test_careful_takes_small_batches_and_leaves_the_budget_as_it_was(
    expected: list[float],
) -> None:
    scorer = small(max_batch_tokens=5_000)
    began: list[bool] = []

    def batches_of(*, small_batches: bool) -> int:
        began.clear()
        counted = scorer.score_pairs(PAIRS, lambda: began.append(True), small_batches=small_batches)
        assert counted.logits == close(expected)
        return len(began)

    assert batches_of(small_batches=False) < batches_of(small_batches=True)
    assert scorer.engine.budget.tokens == scorer.engine.budget.full == 5_000


# Before each batch


@pytest.mark.parametrize("make", [tiny_models.bert, tiny_models.roberta])
def test_what_is_raised_before_a_batch_ends_the_run_as_it_is(
    tmp_path: Path, make: Callable[[Path], str]
) -> None:
    # Given a job of several batches that ends meanwhile
    scorer = small(make(tmp_path), max_batch_tokens=64)
    pairs = [("the cat", "sat " * number) for number in range(60)]
    expected = scorer.score(pairs)
    began: list[bool] = []
    reason = TimeLimitExceeded("not done after all")

    def before_batch() -> None:
        began.append(True)
        if len(began) == 3:
            raise reason

    # When it is noticed before the third batch
    with pytest.raises(TimeLimitExceeded) as caught:
        scorer.score_pairs(pairs, before_batch)
    # Then the reason comes out, not as its own cause, and the next run is as ever
    assert caught.value is reason
    assert reason.__cause__ is None
    assert scorer.score(pairs) == expected
