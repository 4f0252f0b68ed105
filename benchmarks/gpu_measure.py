"""Measure one model on a GPU, and compare it with `CrossEncoder.predict`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from sentence_transformers import CrossEncoder

from benchmarks.random_models import RandomModel
from benchmarks.work import Pair
from worker.engine import load
from worker.engine.sdpa import without_cudnn

BATCH_SIZES = (128, 512, 1024)
#: Pairs whose scores are compared with those of float32.
COMPARED = 3_000
#: A measurement of `predict` stops after this time, and counts the pairs that it scored.
PREDICT_LIMIT_S = 8.0


@dataclass(frozen=True)
class GpuFigures:
    """The figures of one model. Rates are pairs per second."""

    title: str
    backend: str
    dtype: str
    load_s: float
    #: The first run of all pairs, and the best of two more, which know all texts.
    first_pairs_per_s: float
    pairs_per_s: float
    #: By the name of a way to call `predict`.
    predict_pairs_per_s: dict[str, float] = field(default_factory=dict)
    #: The largest differences of scores from those of `predict` in float32.
    max_difference: float = 0.0
    predict_max_difference: float = 0.0
    #: The standard deviation of the scores in float32, to compare the differences with.
    deviation: float = 0.0

    @property
    def best_predict(self) -> float:
        """The rate of `predict` in its best case."""
        return max(self.predict_pairs_per_s.values())

    def record(self) -> dict[str, Any]:
        """Return the figures, for JSON."""
        ratio = self.pairs_per_s / self.best_predict
        return asdict(self) | {"ratio": ratio, "first_ratio": self.ratio_of_first()}

    def ratio_of_first(self) -> float:
        """Return the first run's rate divided by that of `predict` in its best case."""
        return self.first_pairs_per_s / self.best_predict


def measure(model: RandomModel, folder: Path, pairs: list[Pair], device: str) -> GpuFigures:
    """Return the figures of a model in a folder."""
    load_s, scorer = _timed(device, partial(load, str(folder), device=device))
    score = partial(scorer.score, pairs)
    first_s, scores = _timed(device, score)
    again_s = min(_timed(device, score)[0] for _ in range(2))
    backend, dtype = scorer.backend, scorer.dtype
    # What follows may fail, for lack of memory for example.
    click.echo(
        f"  {len(pairs) / again_s:,.0f} pairs/s, first run {len(pairs) / first_s:,.0f}"
        f" ({backend}, {dtype})",
        err=True,
    )
    del scorer, score
    some = pairs[: model.predict_pairs]
    encoder = _encoder(folder, device, getattr(torch, dtype))
    rates = _predict_rates(encoder, some, device)
    compared = some[:COMPARED]
    with without_cudnn(torch.device(device)):
        rounded = _predicted(encoder, compared)
        del encoder
        exact = _predicted(_encoder(folder, device, torch.float32), compared)
    return GpuFigures(
        title=model.title,
        backend=backend,
        dtype=dtype,
        load_s=load_s,
        first_pairs_per_s=len(pairs) / first_s,
        pairs_per_s=len(pairs) / again_s,
        predict_pairs_per_s=rates,
        max_difference=float(np.abs(np.array(scores[: len(exact)]) - exact).max()),
        predict_max_difference=float(np.abs(rounded - exact).max()),
        deviation=float(exact.std()),
    )


def _predict_rates(encoder: CrossEncoder, pairs: list[Pair], device: str) -> dict[str, float]:
    """Return the rate of each way to call `predict`, except those that run out of memory."""
    ways: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "without cuDNN": partial(without_cudnn, torch.device(device))
    }
    if device != "cpu":
        ways["as it comes"] = nullcontext
    rates = {}
    for way, settings in ways.items():
        for size in BATCH_SIZES:
            with settings(), suppress(torch.OutOfMemoryError):
                _predicted(encoder, pairs[: min(len(pairs), 2 * size)], size)  # warm up
                rates[f"{way}, batches of {size}"] = _predict_rate(encoder, pairs, size, device)
    return rates


def _predict_rate(encoder: CrossEncoder, pairs: list[Pair], size: int, device: str) -> float:
    """Return the rate of `predict`, which sorts the pairs of a call by length."""
    third = -(-len(pairs) // 3)
    scored, seconds = 0, 0.0
    for start in range(0, len(pairs), third):
        part = pairs[start : start + third]
        seconds += _timed(device, partial(_predicted, encoder, part, size))[0]
        scored += len(part)
        if seconds > PREDICT_LIMIT_S:
            break
    return scored / seconds


def _encoder(folder: Path, device: str, dtype: torch.dtype) -> CrossEncoder:
    return CrossEncoder(str(folder), device=device, model_kwargs={"dtype": dtype})


def _predicted(encoder: CrossEncoder, pairs: list[Pair], batch_size: int = 128) -> Any:
    return encoder.predict(
        pairs, batch_size=batch_size, activation_fn=torch.nn.Identity(), show_progress_bar=False
    )


def _timed(device: str, call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call takes, with all work that it starts, and its result."""
    _wait(device)
    began = time.perf_counter()
    result = call()
    _wait(device)
    return time.perf_counter() - began, result


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
