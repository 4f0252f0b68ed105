"""A score is the model's raw logit, whatever order, batch or thread its pair came in."""

from __future__ import annotations

import os
import random
import resource
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from billiard.exceptions import SoftTimeLimitExceeded
from sentence_transformers import CrossEncoder
from transformers import AutoTokenizer

from contract.errors import BadScores, ModelUnavailable, OutOfMemory, ScoringError
from tests.unit import tiny_models
from worker import models
from worker.scorer import TOKENISE_AT_ONCE, Pair, Scorer, cut_batches

TOLERANCE = 1e-4

QUERY = "how do I open a pdf"
#: From nothing to more than the model reads.
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

#: Logits of the bundled model. They change only if the model, or what is fed to it, does.
GOLDEN: list[tuple[str, str, float]] = [
    ("edit pictures", "a program that edits images", 6.020),
    ("edit pictures", "a mail server for local delivery", -6.528),
    ("combine several pdf documents into one", "merge PDF files into a single file", 4.868),
    ("convert audio files", "", -6.603),
    ("what is a compiler", "A compiler translates source code into machine code.", 4.751),
]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer("bundled")


@pytest.fixture(scope="module")
def expected() -> list[float]:
    """What sentence-transformers itself gives for `PAIRS`."""
    return predicted(str(models.BUNDLED_PATH), PAIRS)


def predicted(path: str, pairs: Sequence[Pair]) -> list[float]:
    reference = CrossEncoder(path, device="cpu", activation_fn=torch.nn.Identity())
    return [float(score) for score in reference.predict(list(pairs))]


def close(scores: Sequence[float]) -> object:
    return pytest.approx(list(scores), abs=TOLERANCE)


@contextmanager
def memory_left(size: int) -> Iterator[None]:
    """The process may take no more than `size` bytes beyond what it has."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# Parity


def test_scores_are_those_of_sentence_transformers(scorer: Scorer, expected: list[float]) -> None:
    assert scorer.score(PAIRS) == close(expected)


def test_the_bundled_model_is_read_without_an_activation() -> None:
    encoder = CrossEncoder(str(models.BUNDLED_PATH), device="cpu")
    assert isinstance(encoder.activation_fn, torch.nn.Identity)


def test_an_activation_in_the_models_config_does_not_touch_the_logits(tmp_path: Path) -> None:
    # A BERT without one gets a sigmoid from sentence-transformers.
    path = tiny_models.bert(tmp_path)
    scores = Scorer(path).score(PAIRS)
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
    scores = Scorer(path).score_counted(pairs)
    assert scores.logits == close(predicted(path, pairs))
    assert scores.truncated == 1


@pytest.mark.parametrize(("query", "document", "logit"), GOLDEN)
def test_the_bundled_models_scores_do_not_drift(
    scorer: Scorer, query: str, document: str, logit: float
) -> None:
    assert scorer.score([(query, document)]) == pytest.approx([logit], abs=1e-3)


def test_half_precision_weights_are_run_in_single_precision_on_a_cpu(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path, change=tiny_models.halve)
    assert '"dtype": "float16"' in (tmp_path / "config.json").read_text()
    scorer = Scorer(path)
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


def test_more_pairs_than_are_tokenised_at_once_keep_their_order(scorer: Scorer) -> None:
    pairs = [(QUERY, f"package number {number}") for number in range(TOKENISE_AT_ONCE + 5)]
    counted = scorer.score_counted(pairs)
    assert counted.unique_pairs == len(pairs)
    assert scorer.score(pairs[::-1]) == close(counted.logits[::-1])
    # Either side of the seam.
    assert scorer.score(pairs[-7:-3]) == close(counted.logits[-7:-3])


def test_equal_pairs_are_scored_once_and_all_get_the_score(
    scorer: Scorer, expected: list[float]
) -> None:
    counted = scorer.score_counted([PAIRS[2], PAIRS[0], PAIRS[2], PAIRS[1], PAIRS[0], PAIRS[2]])
    assert counted.unique_pairs == 3
    assert counted.logits == close([expected[place] for place in (2, 0, 2, 1, 0, 2)])
    assert counted.logits[0] == counted.logits[2] == counted.logits[5]


def test_the_same_document_under_two_queries_is_two_pairs(scorer: Scorer) -> None:
    counted = scorer.score_counted([("edit pictures", "pdf"), (QUERY, "pdf")])
    assert counted.unique_pairs == 2
    assert abs(counted.logits[0] - counted.logits[1]) > 0.1


def test_query_and_document_are_not_interchangeable(scorer: Scorer) -> None:
    assert scorer.score_counted([("pdf", QUERY), (QUERY, "pdf")]).unique_pairs == 2


def test_pairs_that_look_alike_when_joined_are_two(scorer: Scorer) -> None:
    assert scorer.score_counted([("a b", "c"), ("a", "b c")]).unique_pairs == 2


def test_no_pairs_give_no_scores(scorer: Scorer) -> None:
    counted = scorer.score_counted([])
    assert (counted.logits, counted.unique_pairs, counted.tokens, counted.truncated) == (
        [],
        0,
        0,
        0,
    )


# Batches


@pytest.mark.parametrize("place", range(len(PAIRS)))
def test_a_score_does_not_depend_on_what_it_was_batched_with(
    scorer: Scorer, expected: list[float], place: int
) -> None:
    assert scorer.score([PAIRS[place]]) == close([expected[place]])


@pytest.mark.parametrize("max_batch_tokens", [1, 64, 700, 20_000])
def test_any_token_budget_gives_the_same_scores(
    expected: list[float], max_batch_tokens: int
) -> None:
    scorer = Scorer("bundled", max_batch_tokens=max_batch_tokens)
    assert scorer.score(PAIRS) == close(expected)


#: Lengths of pairs, and a budget of tokens.
CUTS = [
    ([5], 100),
    ([5, 9, 5, 1, 7], 10),
    ([512, 3, 3, 3, 512, 40], 512),
    ([600, 700, 2], 512),
    ([4] * 25, 16),
    ([3, 3, 3], 1),
    ([random.Random(1).randint(3, 512) for _ in range(500)], 2_048),
    ([0, 0, 1], 1),
]


@pytest.mark.parametrize(("lengths", "budget"), CUTS)
def test_every_place_is_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    batches = list(cut_batches(lengths, budget))
    assert all(batches)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))


@pytest.mark.parametrize(("lengths", "budget"), CUTS)
def test_the_longest_pairs_come_first(lengths: list[int], budget: int) -> None:
    in_order = [lengths[place] for batch in cut_batches(lengths, budget) for place in batch]
    assert in_order == sorted(lengths, reverse=True)


@pytest.mark.parametrize(("lengths", "budget"), CUTS)
def test_only_a_single_pair_may_exceed_the_token_budget(lengths: list[int], budget: int) -> None:
    for batch in cut_batches(lengths, budget):
        assert len(batch) == 1 or max(lengths[place] for place in batch) * len(batch) <= budget


def test_a_batch_is_filled_as_far_as_the_budget_goes() -> None:
    assert [len(batch) for batch in cut_batches([4] * 10, 16)] == [4, 4, 2]


def test_no_lengths_make_no_batches() -> None:
    assert list(cut_batches([], 10)) == []


# Counts


@pytest.mark.parametrize(
    ("words", "tokens", "truncated"), [(507, 511, 0), (508, 512, 0), (509, 512, 1), (5_000, 512, 1)]
)
def test_a_pair_is_truncated_from_the_first_token_too_many(
    scorer: Scorer, words: int, tokens: int, truncated: int
) -> None:
    # One token of the query, three that are the model's own, and one a word.
    counted = scorer.score_counted([("a", "a " * words)])
    assert (counted.tokens, counted.truncated) == (tokens, truncated)


def test_tokens_are_counted_for_unique_pairs_after_cutting(scorer: Scorer) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models.BUNDLED_PATH)
    queries, documents = zip(*PAIRS, strict=True)
    by_hand = sum(
        len(ids)
        for ids in tokenizer(
            list(queries), list(documents), truncation="longest_first", max_length=512
        )["input_ids"]
    )
    assert scorer.score_counted(PAIRS).tokens == by_hand
    assert scorer.score_counted(PAIRS * 2).tokens == by_hand


def test_every_truncated_pair_counts_also_if_it_is_scored_once(scorer: Scorer) -> None:
    counted = scorer.score_counted([(QUERY, "long " * 600), (QUERY, "pdf"), (QUERY, "long " * 600)])
    assert (counted.unique_pairs, counted.truncated) == (2, 2)


def test_a_model_reads_no_more_tokens_than_it_has_positions_for(tmp_path: Path) -> None:
    # The bundled tokenizer says 512.
    scorer = Scorer(tiny_models.bert(tmp_path, max_position_embeddings=64))
    counted = scorer.score_counted([(QUERY, "long " * 600)])
    assert (scorer.max_length, counted.tokens, counted.truncated) == (64, 64, 1)


def test_a_scorer_says_what_it_runs_on(scorer: Scorer) -> None:
    assert (scorer.model, scorer.backend, scorer.device) == ("bundled", "torch", "cpu")
    assert (scorer.dtype, scorer.max_length) == ("float32", 512)


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads_as_before")
@pytest.mark.parametrize("threads", [1, 2])
def test_torch_uses_as_many_threads_as_asked(threads: int) -> None:
    Scorer("bundled", threads=threads, max_batch_tokens=1)
    assert torch.get_num_threads() == threads


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


class CountsThreads(Scorer):
    """A scorer that knows how many threads were in its network at the same time."""

    inside = 0
    most = 0

    def _forward(self, batch: list[dict[str, list[int]]]) -> list[float]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            return super()._forward(batch)
        finally:
            self.inside -= 1


def test_threads_take_turns_with_the_network() -> None:
    scorer = CountsThreads("bundled")
    together = threading.Barrier(8)

    def score(_: int) -> list[float]:
        together.wait()
        return scorer.score(PAIRS)

    with ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(score, range(8)))) == 8
    assert scorer.most == 1


# Failures


def test_a_model_with_several_scores_a_pair_is_refused(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path / "three", num_labels=3)
    with pytest.raises(ModelUnavailable, match=r"gives 3 scores a pair"):
        Scorer(path)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), float("-inf")])
def test_a_model_that_gives_no_finite_scores_is_found_out_by_name(
    tmp_path: Path, weight: float
) -> None:
    path = tiny_models.bert(tmp_path / "spoilt", change=tiny_models.fill_head(weight))
    with pytest.raises(
        BadScores,
        match=r"^Reranking failed for model spoilt: 4 of 4 scores are not finite numbers$",
    ):
        Scorer(path)


class LosesOne(Scorer):
    """A scorer whose network answers for all pairs of a batch but the last."""

    def _forward(self, batch: list[dict[str, list[int]]]) -> list[float]:
        return super()._forward(batch)[:-1]


class RepeatsOne(Scorer):
    """A scorer whose network answers twice for the last pair of a batch."""

    def _forward(self, batch: list[dict[str, list[int]]]) -> list[float]:
        logits = super()._forward(batch)
        return [*logits, logits[-1]]


@pytest.mark.parametrize(("kind", "answers"), [(LosesOne, 3), (RepeatsOne, 5)])
def test_a_wrong_number_of_scores_is_a_failure_that_says_so(
    kind: type[Scorer], answers: int
) -> None:
    with pytest.raises(
        BadScores, match=rf"^Reranking failed for model bundled: {answers} scores for 4 pairs$"
    ):
        kind("bundled")


def test_a_foreign_error_while_scoring_becomes_ours_with_its_cause(scorer: Scorer) -> None:
    with pytest.raises(
        ScoringError, match=r"^Reranking failed for model bundled: .*TextInputSequence"
    ) as caught:
        scorer.score([(QUERY, "half a surrogate pair: \ud800")])
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_scorer_works_on_after_a_failure(scorer: Scorer, expected: list[float]) -> None:
    with pytest.raises(ScoringError):
        scorer.score([(QUERY, "\ud800")])
    assert scorer.score(PAIRS) == close(expected)


class RunsOutOfTime(Scorer):
    """A scorer on which Celery's time limit strikes amid a forward pass, once it is `late`."""

    late = False

    def _forward(self, batch: list[dict[str, list[int]]]) -> list[float]:
        if self.late:
            raise SoftTimeLimitExceeded
        return super()._forward(batch)


def test_the_time_limit_is_no_failure_of_the_model_and_frees_its_turn(
    expected: list[float],
) -> None:
    scorer = RunsOutOfTime("bundled")
    scorer.late = True
    with pytest.raises(SoftTimeLimitExceeded):
        scorer.score(PAIRS)
    scorer.late = False
    assert scorer.score(PAIRS) == close(expected)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space, as Linux does")
def test_too_little_memory_is_a_failure_that_may_pass(tmp_path: Path) -> None:
    # 32 pairs x 512 tokens x 4,096 features x 4 bytes: one layer takes 256 MiB.
    path = tiny_models.bert(tmp_path / "large", intermediate_size=4_096)
    scorer = Scorer(path, max_batch_tokens=16_384)
    pairs = [(QUERY, f"{number} " * 600) for number in range(32)]
    with (
        memory_left(128 * 2**20),
        pytest.raises(
            OutOfMemory, match=r"^Reranking failed for model large: .*allocate"
        ) as caught,
    ):
        scorer.score(pairs)
    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert len(scorer.score(pairs)) == 32
