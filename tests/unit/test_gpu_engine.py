"""On a GPU, scores are those of a CPU, all work is started before any is awaited, and nothing is
lost when memory runs out. Tested on a CPU, with the layout and the control flow of a GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from torch import Tensor

from tests.unit import tiny_models, varlen_layout
from tests.unit.predict_scores import PAIRS, QUERY, apart, fast_engine, open_encoder
from worker.engine import device_memory
from worker.engine.backoff import SMALL_BATCH_TOKENS, BatchBudget
from worker.engine.gpu_engine import BUDGETS, PORTION_PAIRS, GpuEngine, make_batches
from worker.engine.pair_columns import PairColumns
from worker.engine.predict_engine import PredictEngine
from worker.engine.probes import PROBES, TOLERANCES
from worker.engine.statistics import BatchStatistics
from worker.engine.varlen import Sequences, VarlenFunction
from worker.engine.varlen_functions import padded

#: The layout may change the rounding only.
ROUNDING = 1e-5

functions = pytest.mark.parametrize(
    "function", [varlen_layout.reference, padded()], ids=["plain", "padded"]
)


def within(engine: GpuEngine, tokens: int) -> GpuEngine:
    """Return the engine with this token budget."""
    engine.budget = BatchBudget(tokens)
    return engine


# Scores


@functions
@pytest.mark.parametrize("budget", [1, 700, 65_536])
def test_scores_are_those_of_a_cpu(
    bundled: CrossEncoder, function: VarlenFunction, budget: int
) -> None:
    expected = fast_engine(bundled).run(PAIRS)
    output = within(GpuEngine(bundled, function), budget).run(PAIRS)
    assert apart(output.scores, expected.scores) < ROUNDING
    assert (output.tokens, output.truncated) == (expected.tokens, expected.truncated)
    assert output.scores.dtype == np.float32


def modernbert(folder: Path) -> str:
    return tiny_models.modernbert_modules(folder, "mean")


@pytest.mark.parametrize("make", [tiny_models.roberta, modernbert])
def test_scores_of_other_families_are_those_of_a_cpu(tmp_path: Path, make: Any) -> None:
    encoder = open_encoder(make(tmp_path))
    pairs = [(QUERY, "the cat sat on the mat, a tool and a file " * number) for number in range(9)]
    expected = fast_engine(encoder).run(pairs)
    output = GpuEngine(encoder, varlen_layout.reference).run(pairs)
    assert apart(output.scores, expected.scores) < ROUNDING
    assert output.truncated == expected.truncated


@pytest.fixture(params=[tiny_models.bert, tiny_models.roberta])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> CrossEncoder:
    """Load a model that remembers words, and one whose texts are tokenized ahead by a thread."""
    return open_encoder(request.param(tmp_path))


def test_in_portions_scores_are_the_same(small: CrossEncoder) -> None:
    # Given more pairs than a portion has, of some lengths, at the seam too
    texts = [f"{number} cat" * (number % 4) for number in range(PORTION_PAIRS + 300)]
    seam = slice(PORTION_PAIRS - 2, PORTION_PAIRS + 2)
    texts[seam] = ["the " * length for length in (40, 900, 0, 60)]
    pairs = [("dog", text) for text in texts]
    plain, other = fast_engine(small).run(pairs), GpuEngine(small, padded()).run(pairs)
    # With thousands of pairs, a rounding of ten times the usual one is among them.
    assert apart(other.scores, plain.scores) < 10 * ROUNDING
    assert plain.scores.std() > 1_000 * ROUNDING
    assert (other.tokens, other.truncated) == (plain.tokens, plain.truncated)
    assert plain.truncated[seam][:3] == [False, True, False]


def test_no_pairs_have_no_scores(small: CrossEncoder) -> None:
    output = GpuEngine(small, padded()).run([])
    assert (len(output.scores), output.tokens, output.truncated) == (0, 0, [])


def test_a_failure_in_a_portion_comes_out(small: CrossEncoder) -> None:
    pairs = [*[(QUERY, "cat")] * PORTION_PAIRS, (QUERY, "\ud800")]
    with pytest.raises((TypeError, UnicodeEncodeError)):
        GpuEngine(small, padded()).run(pairs)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@functions
def test_in_half_precision_scores_are_within_the_tolerance_of_the_proof(
    dtype: str, function: VarlenFunction
) -> None:
    encoder = open_encoder("bundled", dtype)
    engine = GpuEngine(encoder, function)
    expected = PredictEngine(encoder, 1, 512).run(PROBES).scores
    assert engine.dtype == dtype
    assert apart(engine.run(PROBES).scores, expected) < TOLERANCES[dtype]


# No wait before the end


class Observed(Tensor):
    """Logits that record when they are read, and may fail then, as those of a GPU do."""

    events: list[str]
    error: BaseException | None = None

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        logits = args[0][0] if function is torch.cat else args[0]
        if function in (torch.cat, Tensor.cpu) and isinstance(logits, cls):
            logits.events.append("read")
            if logits.error is not None:
                raise logits.error
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))


class ObservedEngine(GpuEngine):
    """Records what happens, and fails in the first read with `error`."""

    def __init__(self, encoder: CrossEncoder, error: BaseException | None = None) -> None:
        super().__init__(encoder, padded())
        self.events: list[str] = []
        self.error = error

    def _forward(self, pairs: PairColumns, places: list[int]) -> Tensor:
        self.events.append("start")
        with torch.inference_mode(False):
            logits = super()._forward(pairs, places).clone().as_subclass(Observed)
        logits.events = self.events
        if self.error is not None and "read" not in self.events:
            logits.error = self.error
        return logits


def test_all_batches_are_started_before_one_is_awaited(bundled: CrossEncoder) -> None:
    engine = ObservedEngine(bundled)
    within(engine, 300).run(PAIRS * 2)
    assert engine.events == ["start"] * (len(engine.events) - 1) + ["read"]
    assert len(engine.events) > 5


def test_a_callback_precedes_each_batch_and_can_end_the_run(bundled: CrossEncoder) -> None:
    engine = ObservedEngine(bundled)
    within(engine, 300).run(PAIRS, lambda: engine.events.append("before"))
    assert engine.events == ["before", "start"] * (len(engine.events) // 2) + ["read"]

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        engine.run(PAIRS, stop)


# Memory


class Small:
    """A GPU without memory for more than `rows` at once."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, of_q: Sequences, of_k: Sequences, window: int | None
    ) -> Tensor:
        if len(k) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return varlen_layout.reference(q, k, v, of_q, of_k, window)


def test_out_of_memory_halves_batches_and_loses_no_score(bundled: CrossEncoder) -> None:
    expected = fast_engine(bundled).run(PAIRS).scores
    engine = within(GpuEngine(bundled, Small(600)), 4_000)
    statistics = BatchStatistics()
    output = engine.run(PAIRS, statistics=statistics)
    assert apart(output.scores, expected) < ROUNDING
    # 4,000 did not fit, 2,000 and 1,000 neither, and the next job begins with what did
    assert engine.budget.tokens == 500
    assert statistics.out_of_memory == statistics.budget_reductions == 3
    assert max(statistics.batch_tokens) <= 600
    assert sum(statistics.batch_tokens) == output.tokens
    again = BatchStatistics()
    assert apart(engine.run(PAIRS, statistics=again).scores, expected) < ROUNDING
    assert again.out_of_memory == 0


def test_out_of_memory_that_shows_at_the_end_only_loses_no_score(bundled: CrossEncoder) -> None:
    expected = fast_engine(bundled).run(PAIRS).scores
    error = torch.OutOfMemoryError("CUDA error: out of memory")
    engine = ObservedEngine(bundled, error)
    output = within(engine, 2_000).run(PAIRS)
    assert apart(output.scores, expected) < ROUNDING
    assert engine.budget.tokens == 1_000
    # Then one batch is awaited before the next is started
    careful = engine.events[engine.events.index("read") + 1 :]
    assert careful == ["start", "read"] * (len(careful) // 2)


def test_a_pair_that_does_not_fit_alone_comes_out_as_lack_of_memory(bundled: CrossEncoder) -> None:
    engine = within(GpuEngine(bundled, Small(100)), 4_000)
    with pytest.raises(torch.OutOfMemoryError):
        engine.run(PAIRS)


def test_another_error_at_the_end_comes_out_at_once(bundled: CrossEncoder) -> None:
    error = RuntimeError("CUDA error: device-side assert triggered")
    engine = ObservedEngine(bundled, error)
    with pytest.raises(RuntimeError, match="device-side assert"):
        engine.run(PAIRS)
    assert engine.events.count("read") == 1


def test_small_batches_are_small(bundled: CrossEncoder) -> None:
    statistics = BatchStatistics()
    engine = GpuEngine(bundled, padded())
    engine.run(PAIRS, statistics=statistics, small_batches=True)
    assert max(statistics.batch_tokens) <= SMALL_BATCH_TOKENS


def test_the_budget_is_measured_unless_it_is_given(tmp_path: Path) -> None:
    shape: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    engine = GpuEngine(open_encoder(tiny_models.bert(tmp_path, **shape)), padded())
    engine.tune(None, 123)
    assert engine.budget.full == 123
    engine.tune(None, None)
    assert engine.budget.full in BUDGETS


@pytest.mark.parametrize(
    ("free", "token_bytes", "tokens"),
    [(10 * 2**30, 2**16, 65_536), (80 * 2**30, 2**16, 524_288), (2**30, 2**16, 4_096), (0, 9, 1)],
)
def test_a_batch_takes_a_share_of_the_free_memory(free: int, token_bytes: int, tokens: int) -> None:
    assert device_memory.fitting_tokens(free, token_bytes) == tokens


def test_a_token_takes_more_memory_in_a_wider_model(tmp_path: Path) -> None:
    narrow = open_encoder(tiny_models.bert(tmp_path / "narrow"))
    wide = open_encoder(tiny_models.bert(tmp_path / "wide", hidden_size=64))
    least = 4 * (7 * 32 + 2 * 64)  # residual, q, k, v, context and more; intermediate, twice
    assert device_memory.bytes_per_token(wide.model) > device_memory.bytes_per_token(narrow.model)
    assert device_memory.bytes_per_token(narrow.model) >= least


# Batches


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("budget", [1, 40, 1_000, 100_000])
def test_batches_have_each_pair_once_the_longest_first(seed: int, budget: int) -> None:
    lengths = np.random.default_rng(seed).integers(3, 60, 100).astype(np.int32)
    made = make_batches(lengths, budget)
    assert sorted(place for batch in made for place in batch) == list(range(100))
    in_order = [int(lengths[place]) for batch in made for place in batch]
    assert in_order == sorted(in_order, reverse=True)
    sizes = [int(lengths[batch].sum()) for batch in made]
    assert all(size <= budget or len(batch) == 1 for size, batch in zip(sizes, made, strict=True))
    # No batch could take the next one's first pair too
    for size, after in zip(sizes, made[1:], strict=False):
        assert size + lengths[after[0]] > budget


def test_no_lengths_make_no_batches() -> None:
    assert make_batches(np.empty(0, np.int32), 9) == []
