"""The fast engine is taken where it gives predict's scores; both give them in the pairs' order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from billiard.exceptions import SoftTimeLimitExceeded
from sentence_transformers import CrossEncoder
from torch import Tensor
from transformers import BertForSequenceClassification, BertJapaneseTokenizer

from contract.errors import ModelUnavailable
from tests.unit import tiny_models
from worker import engine as engines
from worker.engine.backoff import BatchBudget
from worker.engine.batches import ScoreArray
from worker.engine.bert_engine import CPU_BUDGETS, PREFETCHED_PAIRS, BertEngine
from worker.engine.checkpoint import load_encoder
from worker.engine.choice import choose, exact_linears
from worker.engine.linear import Linear, PackedLinear
from worker.engine.model_paths import bundled_path
from worker.engine.predict_engine import PredictEngine
from worker.engine.probes import PROBES
from worker.engine.protocol import Pair
from worker.engine.statistics import BatchStatistics
from worker.engine.threads import torch_threads
from worker.engine.tokens import PairTokens

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1e-4

QUERY = "how do I open a pdf"
DOCUMENTS = (
    "pdf",
    "",
    "a tool to open pdf files",
    "日本語のPDFを開く 🙂",
    "the mail server delivers messages to local users " * 6,
    "open a pdf file with a password " * 100,
    *(f"package number {number} " * (number % 5) for number in range(40)),
)
PAIRS: list[Pair] = [(QUERY, document) for document in DOCUMENTS]


def load(path: str, dtype: str | None = None) -> CrossEncoder:
    return load_encoder(path, "cpu", dtype)


def chosen(encoder: CrossEncoder, *, int8: bool = False) -> BertEngine | PredictEngine:
    """The engine for a model, without measuring what is fastest."""
    return choose(encoder, int8=int8, threads=1, max_batch_tokens=512)


def fast(encoder: CrossEncoder, threads: int = 1) -> BertEngine:
    return BertEngine(encoder, exact_linears(encoder)[0], threads)


@lru_cache(maxsize=2)
def reference(path: str) -> CrossEncoder:
    return CrossEncoder(path, device="cpu")


def predicted(path: str, pairs: Sequence[Pair] = PAIRS, **given: Any) -> Any:
    """What sentence-transformers itself gives, by default with the model's own activation."""
    scores: Any = reference(path).predict(list(pairs), **given)
    return scores


def logits(path: str, pairs: Sequence[Pair] = PAIRS) -> Any:
    return predicted(path, pairs, activation_fn=torch.nn.Identity())


def apart(one: Any, other: Any) -> float:
    """How far the farthest score is from where it should be."""
    assert np.shape(one) == np.shape(other)
    return float(np.max(np.abs(np.subtract(one, other))))


def with_activation(folder: Path, name: str, **given: Any) -> str:
    """A BERT with an activation in its config."""
    path = tiny_models.bert(folder, **given)
    settings = {"activation_fn": f"torch.nn.modules.activation.{name}"}
    tiny_models.edit_json(folder / "config.json", sentence_transformers=settings)
    return path


@pytest.fixture(scope="module")
def bundled() -> CrossEncoder:
    return load("bundled")


@pytest.fixture(scope="module")
def bundled_logits() -> Any:
    return logits(str(bundled_path()))


# The choice


def bert(folder: Path) -> str:
    return tiny_models.bert(folder)


def one_layer(folder: Path) -> str:
    return tiny_models.bert(folder, num_hidden_layers=1, num_attention_heads=4)


def relu(folder: Path) -> str:
    return tiny_models.bert(folder, hidden_act="relu")


@pytest.mark.parametrize(
    ("make", "backend"),
    [
        (bert, "rerankq"),
        (one_layer, "rerankq"),
        (relu, "sentence-transformers"),
        (tiny_models.roberta, "sentence-transformers"),
    ],
)
def test_a_model_is_scored_as_by_predict_in_the_fastest_way_there_is(
    tmp_path: Path, make: Callable[[Path], str], backend: str
) -> None:
    path = make(tmp_path)
    engine = chosen(load(path))
    scored = engine.run(PAIRS)
    assert engine.backend == backend
    assert engine.dtype == "float32"
    assert apart(scored.scores, logits(path)) < TOLERANCE
    assert scored.scores.std() > 100 * TOLERANCE


@pytest.mark.arithmetic
def test_the_bundled_model_is_scored_the_fast_way(
    bundled: CrossEncoder, bundled_logits: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "worker.engine.choice"):
        engine = chosen(bundled)
    assert engine.backend == "rerankq"
    assert "gives the scores of predict, within" in caplog.text
    assert apart(engine.run(PAIRS).scores, bundled_logits) < TOLERANCE


@pytest.mark.parametrize("make", [bert, tiny_models.roberta])
def test_no_pairs_have_no_scores(tmp_path: Path, make: Callable[[Path], str]) -> None:
    scored = chosen(load(make(tmp_path))).run([])
    assert (len(scored.scores), scored.tokens, scored.truncated) == (0, 0, [])


@pytest.mark.parametrize("make", [bert, tiny_models.roberta])
def test_tokens_and_cuts_are_those_of_the_tokenizer(
    tmp_path: Path, make: Callable[[Path], str]
) -> None:
    encoder = load(make(tmp_path))
    scored = chosen(encoder).run(PAIRS)
    most = encoder.max_seq_length
    queries, documents = zip(*PAIRS, strict=True)
    whole = [len(ids) for ids in encoder.tokenizer(list(queries), list(documents))["input_ids"]]
    assert scored.truncated == [length > most for length in whole]
    assert any(scored.truncated)
    assert scored.tokens == sum(min(length, most) for length in whole)


@pytest.mark.parametrize("make", [bert, tiny_models.roberta])
def test_what_is_asked_for_is_taken(tmp_path: Path, make: Callable[[Path], str]) -> None:
    engine = choose(load(make(tmp_path)), int8=False, threads=3, max_batch_tokens=777)
    assert (engine.threads, engine.budget.full) == (3, 777)


@pytest.mark.parametrize("make", [bert, tiny_models.roberta])
def test_what_is_not_asked_for_is_found(tmp_path: Path, make: Callable[[Path], str]) -> None:
    engine = choose(load(make(tmp_path)), int8=False, threads=None, max_batch_tokens=None)
    assert 1 <= engine.threads <= joblib.cpu_count()
    assert engine.budget.full in CPU_BUDGETS


@pytest.mark.parametrize("positions", [16, 64, 128])
def test_a_model_that_reads_little_is_measured_within_its_limits(
    tmp_path: Path, positions: int
) -> None:
    path = tiny_models.bert(tmp_path, max_position_embeddings=positions)
    engine = choose(load(path), int8=False, threads=None, max_batch_tokens=None)
    assert engine.backend == "rerankq"
    assert apart(engine.run(PAIRS).scores, logits(path)) < TOLERANCE


def test_a_model_that_knows_few_words_is_measured_with_those(tmp_path: Path) -> None:
    letters = [f"{before}{letter}" for letter in "adfhinopw" for before in ("", "##")]
    tokenizer = tiny_models.in_pairs(tiny_models.wordpiece(letters))
    path = tiny_models.bert(tmp_path, tokenizer=tokenizer, vocab_size=len(tokenizer))
    engine = choose(load(path), int8=False, threads=None, max_batch_tokens=None)
    assert engine.backend == "rerankq"
    assert apart(engine.run(PAIRS).scores, logits(path)) < TOLERANCE


# The proof


def test_probes_are_of_mixed_lengths_up_to_more_than_the_model_reads(
    bundled: CrossEncoder,
) -> None:
    scored = fast(bundled).run(PROBES)
    assert scored.truncated.count(True) == 1
    assert len(scored.truncated) == len(PROBES) > 3


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param("[CLS] $B [SEP] $A:1 [SEP]:1", id="document and query swapped"),
        pytest.param("[CLS] $A $B:1 [SEP]:1", id="no separator"),
        pytest.param("[CLS] $A [SEP] $B:1", id="no end"),
        pytest.param("[CLS] $A [SEP] [SEP] $B:1 [SEP]:1", id="two separators"),
        pytest.param("[CLS] $A [SEP] $B [SEP]", id="one token type"),
    ],
)
def test_a_tokenizer_that_lays_pairs_out_otherwise_is_found_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pair: str
) -> None:
    # Given a plain BERT whose tokenizer is unlike BERT's
    backend = tiny_models.bundled_tokenizer().backend_tokenizer
    path = tiny_models.bert(tmp_path, tokenizer=tiny_models.in_pairs(backend, pair))
    # When an engine is chosen for it
    engine = chosen(load(path))
    # Then it is the slow one, which is right, and the log says so
    assert engine.backend == "sentence-transformers"
    assert apart(engine.run(PAIRS).scores, logits(path)) < TOLERANCE
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("The fast path is not used: off by ")


def test_a_tokenizer_that_lays_pairs_out_as_berts_does_is_not(tmp_path: Path) -> None:
    backend = tiny_models.bundled_tokenizer().backend_tokenizer
    path = tiny_models.bert(tmp_path, tokenizer=tiny_models.in_pairs(backend))
    assert chosen(load(path)).backend == "rerankq"


def test_a_tokenizer_that_gives_no_token_types_is_found_out(tmp_path: Path) -> None:
    tokenizer = tiny_models.in_pairs(tiny_models.bundled_tokenizer().backend_tokenizer)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    path = tiny_models.bert(tmp_path, tokenizer=tokenizer)
    engine = chosen(load(path))
    assert engine.backend == "sentence-transformers"
    assert apart(engine.run(PAIRS).scores, logits(path)) < TOLERANCE


@pytest.mark.parametrize("positions", [512, 1_024])
def test_a_tokenizer_that_cuts_off_the_beginning_is_found_out(
    tmp_path: Path, positions: int
) -> None:
    path = tiny_models.bert(tmp_path, max_position_embeddings=positions)
    tiny_models.edit_json(
        tmp_path / "tokenizer_config.json", truncation_side="left", model_max_length=positions
    )
    pairs = [(QUERY, " ".join(f"word{number}" for number in range(2_000)))]
    assert apart(chosen(load(path)).run(pairs).scores, logits(path, pairs)) < TOLERANCE


def test_a_tokenizer_written_in_python_is_used_by_predict(tmp_path: Path) -> None:
    # Such is that of the Japanese BERTs.
    vocabulary = tmp_path / "vocab.txt"
    words = tiny_models.bundled_tokenizer().get_vocab()
    vocabulary.write_text("\n".join(sorted(words, key=words.__getitem__)))
    japanese: Any = BertJapaneseTokenizer
    tokenizer = japanese(str(vocabulary), word_tokenizer_type="basic", model_max_length=512)
    path = tiny_models.bert(tmp_path / "model", tokenizer=tokenizer)
    engine = chosen(load(path))
    assert engine.backend == "sentence-transformers"
    scored = engine.run(PAIRS)
    assert apart(scored.scores, logits(path)) < TOLERANCE
    assert scored.truncated == [document == DOCUMENTS[5] for document in DOCUMENTS]


def test_scores_that_are_no_numbers_prove_nothing(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path, change=tiny_models.fill_head(3e38))
    assert chosen(load(path)).backend == "sentence-transformers"


class Missing(PackedLinear):
    """Packed layers of a torch that lacks their operator."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        torch.ops.mkldnn._no_such_operator(weight, bias)


class Refusing(PackedLinear):
    """Packed layers of a torch that has their operator, and not for this CPU."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        raise RuntimeError("not on this CPU")


class WithoutPrimitive(PackedLinear):
    """Packed layers whose kernel cannot be made, which is also what lack of memory looks like."""

    def __call__(self, x: Tensor) -> Tensor:
        raise RuntimeError("could not create a primitive descriptor")


class Wrong(PackedLinear):
    """Packed layers that compute something else."""

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        return residual


@pytest.mark.parametrize("linear", [Missing, Refusing, WithoutPrimitive, Wrong])
def test_without_packed_layers_plain_ones_are_taken_and_the_log_says_so(
    bundled: CrossEncoder,
    bundled_logits: Any,
    caplog: pytest.LogCaptureFixture,
    linear: type[Linear],
) -> None:
    with caplog.at_level(logging.INFO, "worker.engine.choice"):
        engine = choose(
            bundled, int8=False, threads=1, max_batch_tokens=512, linears=(linear, Linear)
        )
    assert engine.backend == "rerankq"
    assert "The fast path uses plain layers, which are slower: " in caplog.text
    assert f"with {linear.__name__}" in caplog.text
    assert "gives the scores of predict, within" in caplog.text
    assert apart(engine.run(PAIRS).scores, bundled_logits) < TOLERANCE


# Activations and labels


@pytest.mark.parametrize("make", [bert, tiny_models.roberta])
def test_a_sigmoid_is_left_out(tmp_path: Path, make: Callable[[Path], str]) -> None:
    path = make(tmp_path)
    scores = chosen(load(path)).run(PAIRS).scores
    assert apart(1 / (1 + np.exp(-scores)), predicted(path)) < TOLERANCE
    assert apart(scores, predicted(path)) > 0.1


def test_an_activation_of_the_models_own_making_is_kept(tmp_path: Path) -> None:
    path = with_activation(tmp_path, "Tanh")
    assert apart(chosen(load(path)).run(PAIRS).scores, predicted(path)) < TOLERANCE
    assert apart(predicted(path), logits(path)) > 0.1


def test_an_activation_that_leaves_the_probes_as_they_are_is_kept_too(tmp_path: Path) -> None:
    # Given a ReLU after logits that are all above 0 for the probes, and not for other pairs
    plain = tiny_models.bert(tmp_path / "plain")
    pairs = [(f"query {number}", f"document {number * 7}") for number in range(100)]
    lowest = float(logits(plain, PROBES).min())
    assert logits(plain, pairs).min() < lowest - 0.2

    def lift(model: BertForSequenceClassification) -> None:
        model.classifier.bias.data.fill_(0.1 - lowest)

    path = with_activation(tmp_path / "lifted", "ReLU", change=lift)
    assert logits(path, PROBES).min() > 0 > logits(path, pairs).min()
    # Then scores are those of predict all the same: none is below 0
    assert apart(chosen(load(path)).run(pairs).scores, predicted(path, pairs)) < TOLERANCE


def test_several_scores_a_pair_are_rows(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path, num_labels=3)
    engine = chosen(load(path))
    scores = engine.run(PAIRS).scores
    assert engine.backend == "sentence-transformers"
    assert scores.shape == (len(PAIRS), 3)
    assert apart(scores, predicted(path)) < TOLERANCE


# Precision


def test_weights_are_packed_for_single_precision_on_a_cpu_only(tmp_path: Path) -> None:
    path = tiny_models.bert(tmp_path)
    assert exact_linears(load(path)) == (PackedLinear, Linear)
    assert exact_linears(load(path, "bfloat16")) == (Linear,)


def test_half_precision_is_near_single_precision(bundled_logits: Any) -> None:
    engine = chosen(load("bundled", "bfloat16"))
    assert (engine.backend, engine.dtype) == ("rerankq", "bfloat16")
    scores = engine.run(PAIRS).scores
    assert scores.dtype == np.float32
    assert TOLERANCE < apart(scores, bundled_logits) < 0.2


CLEAR: list[Pair] = [
    ("edit pictures", "a program that edits images"),
    ("edit pictures", "picture viewer"),
    ("edit pictures", "a mail server for local delivery"),
    ("what is a compiler", "A compiler translates source code into machine code."),
    ("what is a compiler", "The weather was fine all week."),
]


@pytest.mark.arithmetic
def test_in_eight_bits_scores_are_near_and_in_the_same_order(bundled: CrossEncoder) -> None:
    exact = chosen(bundled).run(CLEAR).scores
    engine = chosen(bundled, int8=True)
    assert (engine.backend, engine.dtype) == ("rerankq", "int8")
    scores = engine.run(CLEAR).scores
    assert TOLERANCE < apart(scores, exact) < 0.5
    assert np.argsort(scores).tolist() == np.argsort(exact).tolist()


def three_labels(folder: Path) -> str:
    return tiny_models.bert(folder, num_labels=3)


def swapped(folder: Path) -> str:
    backend = tiny_models.bundled_tokenizer().backend_tokenizer
    tokenizer = tiny_models.in_pairs(backend, "[CLS] $B [SEP] $A:1 [SEP]:1")
    return tiny_models.bert(folder, tokenizer=tokenizer)


@pytest.mark.parametrize("make", [tiny_models.roberta, relu, three_labels, swapped])
def test_there_are_no_eight_bits_without_a_fast_path(
    tmp_path: Path, make: Callable[[Path], str]
) -> None:
    name = f"{make(tmp_path)}@int8"
    with pytest.raises(ModelUnavailable, match="int8 form of plain BERT classifiers only") as why:
        engines.load(name, threads=1, max_batch_tokens=512)
    assert repr(name) in str(why.value)


# Batches and threads


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("budget", [1, 300, 100_000])
def test_scores_do_not_depend_on_threads_and_budget(
    bundled: CrossEncoder, bundled_logits: Any, threads: int, budget: int
) -> None:
    engine = fast(bundled, threads)
    engine.tune(threads, budget)
    assert apart(engine.run(PAIRS).scores, bundled_logits) < TOLERANCE


#: Sizes that libraries may have kernels of their own for. Rows of other than full 16 bytes are not
#: among them: what is added up first depends there on where a row begins.
SHAPES: list[dict[str, Any]] = [
    {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 1, "intermediate_size": 64},
    {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 50},
    {"num_hidden_layers": 2, "hidden_size": 36, "num_attention_heads": 3, "intermediate_size": 65},
    {"num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 96},
    {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 4},
]


@pytest.mark.arithmetic
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"h{shape['hidden_size']}")
def test_scores_are_the_same_to_the_last_bit_in_any_batch_and_thread(
    tmp_path: Path, shape: dict[str, Any]
) -> None:
    encoder = load(tiny_models.bert(tmp_path, **shape))
    one_thread = fast(encoder)
    together = one_thread.run(PAIRS).scores
    assert together.std() > 100 * TOLERANCE

    alone = [one_thread.run([pair]).scores[0] for pair in PAIRS]
    assert np.array_equal(together, alone)
    for threads in (1, 2, 3):
        engine = fast(encoder, threads)
        for budget in (1, 100, 777, 100_000):
            engine.budget = BatchBudget(budget)
            assert np.array_equal(engine.run(PAIRS[::-1]).scores[::-1], together)
            some = engine.run(PAIRS[3:20:2], small_batches=True).scores
            assert np.array_equal(some, together[3:20:2])


@pytest.mark.parametrize("budget", [1, 40, 100_000])
def test_scores_of_predict_do_not_depend_on_the_budget(tmp_path: Path, budget: int) -> None:
    path = tiny_models.roberta(tmp_path)
    scored = PredictEngine(load(path), 1, budget).run(PAIRS)
    assert apart(scored.scores, logits(path)) < TOLERANCE


class CountsPadding(PredictEngine):
    """Knows its batches."""

    def __init__(self, encoder: CrossEncoder, max_batch_tokens: int) -> None:
        super().__init__(encoder, 1, max_batch_tokens)
        self.scored: list[list[Pair]] = []

    def _predict(self, pairs: list[Pair]) -> ScoreArray:
        self.scored.append(pairs)
        return super()._predict(pairs)


def test_batches_of_predict_stay_within_the_budget_with_their_padding(tmp_path: Path) -> None:
    # Given one long text among short ones, each of which predict pads to the longest of its batch
    encoder = load(tiny_models.roberta(tmp_path))
    engine = CountsPadding(encoder, max_batch_tokens=124)
    engine.run([("the", "cat " * words) for words in (100, *[1] * 50)])
    # Then batches are no larger than what the scorer was warmed up with
    for pairs in engine.scored:
        encoded = encoder.tokenizer(pairs, truncation=True, max_length=62, padding=True)
        padded = np.size(encoded["input_ids"])
        assert len(pairs) == 1 or padded <= engine.budget.full


class Failing(BertEngine):
    """Fails at the first batch, once a second one is being scored, if it is given an error."""

    error: BaseException | None = None
    begun = 0
    inside = 0

    def __init__(self, encoder: CrossEncoder) -> None:
        super().__init__(encoder, exact_linears(encoder)[0], threads=2)
        self._together = threading.Barrier(2)
        self._counting = threading.Lock()

    def _forward(self, pairs: Sequence[PairTokens], statistics: BatchStatistics) -> ScoreArray:
        if self.error is None:
            return super()._forward(pairs, statistics)
        with self._counting:
            place = self.begun
            self.begun += 1
            self.inside += 1
        try:
            if place < 2:
                self._together.wait(30)
            if place == 0:
                raise self.error
            for _ in range(20):  # far longer than the error needs to come out
                scores = super()._forward(pairs, statistics)
            return scores
        finally:
            with self._counting:
                self.inside -= 1


@pytest.mark.parametrize("error", [RuntimeError("a kernel failed"), SoftTimeLimitExceeded()])
def test_an_error_in_one_thread_comes_out_once_all_threads_have_ended(
    bundled: CrossEncoder, bundled_logits: Any, error: Exception
) -> None:
    engine = Failing(bundled)
    engine.budget = BatchBudget(1)
    # Given an error while another batch is being scored
    engine.error = error
    with torch_threads(3):
        with pytest.raises(type(error)) as caught:
            engine.run(PAIRS)
        assert torch.get_num_threads() == 3
    # Then it comes out, nothing goes on behind it, and the next run is as ever
    assert caught.value is error
    assert 2 <= engine.begun < len(PAIRS)
    assert engine.inside == 0
    engine.error = None
    assert apart(engine.run(PAIRS).scores, bundled_logits) < TOLERANCE


class StrikesWhileSubmitting(ThreadPoolExecutor):
    """Threads that are given half of the work when the time limit strikes."""

    def __init__(self, place: int) -> None:
        super().__init__(1)
        self.place = place
        self.given: list[Future[Any]] = []

    def submit(self, function: Any, /, *given: Any, **named: Any) -> Future[Any]:
        if len(self.given) == self.place:
            raise SoftTimeLimitExceeded
        self.given.append(super().submit(function, *given, **named))
        return self.given[-1]


def test_the_time_limit_leaves_no_work_behind_though_not_all_was_handed_out(
    bundled: CrossEncoder,
) -> None:
    engine = fast(bundled, threads=2)
    engine.budget = BatchBudget(1)
    engine._pool._pool = pool = StrikesWhileSubmitting(place=400)
    with pool:
        with pytest.raises(SoftTimeLimitExceeded):
            engine.run([(QUERY, f"package {number}") for number in range(500)])
        left = [future for future in pool.given if not future.done()]
        pool.shutdown(cancel_futures=True)
    assert len(pool.given) == 400
    assert left == []


# On a GPU


class AsOnGpu(BertEngine):
    """Goes the GPU's way, on the CPU: in portions, each tokenised ahead, with some padding."""

    def __init__(self, encoder: CrossEncoder, linear: type[Linear], threads: int) -> None:
        super().__init__(encoder, linear, threads)
        self._on_gpu = True
        self.budget = BatchBudget(32_768)


def test_in_portions_scores_are_the_same(tmp_path: Path) -> None:
    # Given more pairs than a portion has, of some lengths, at the seam too
    encoder = load(tiny_models.bert(tmp_path, hidden_size=8, intermediate_size=8))
    texts = [f"{number} a" * (number % 4) for number in range(PREFETCHED_PAIRS + 300)]
    seam = slice(PREFETCHED_PAIRS - 2, PREFETCHED_PAIRS + 2)
    texts[seam] = ["x " * length for length in (40, 900, 0, 60)]
    pairs = [("pdf", text) for text in texts]
    plain, other = fast(encoder).run(pairs), AsOnGpu(encoder, Linear, 1).run(pairs)
    assert apart(other.scores, plain.scores) < TOLERANCE
    assert plain.scores.std() > 100 * TOLERANCE
    assert (other.tokens, other.truncated) == (plain.tokens, plain.truncated)
    assert plain.truncated[seam] == [False, True, False, False]


@pytest.mark.parametrize("threads", [1, 2])
def test_with_padding_scores_are_the_same(
    bundled: CrossEncoder, bundled_logits: Any, threads: int
) -> None:
    engine = AsOnGpu(bundled, Linear, threads)
    assert apart(engine.run(PAIRS).scores, bundled_logits) < TOLERANCE
    assert len(engine.run([]).scores) == 0


def test_a_failure_in_the_first_portion_comes_out(bundled: CrossEncoder) -> None:
    with pytest.raises(TypeError):
        AsOnGpu(bundled, Linear, 1).run([(QUERY, "\ud800")])
