"""Choose the engine for a model: our own network if its scores match those of `predict`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from joblib import cpu_count
from sentence_transformers import CrossEncoder

from contract.printable import reason_of
from worker.engine import cuda_errors, memory
from worker.engine.encoders import gives_logits
from worker.engine.families import registry
from worker.engine.fast_engine import FastEngine
from worker.engine.gpu_engine import GpuEngine
from worker.engine.linear import Linear, PackedLinear
from worker.engine.predict_engine import PredictEngine
from worker.engine.probes import PROBES, TOLERANCES
from worker.engine.varlen import VarlenFunction
from worker.engine.varlen_functions import FUNCTIONS

logger = logging.getLogger(__name__)


#: Makes a function for attention on a GPU; raises an error if its library is missing.
MakeFunction = Callable[[], VarlenFunction]


@dataclass(frozen=True)
class Candidate:
    """An engine of ours that may be used if it can be made and is exact."""

    name: str
    make: Callable[[], FastEngine | GpuEngine]


def choose(
    encoder: CrossEncoder,
    *,
    threads: int | None,
    max_batch_tokens: int | None,
    linears: Sequence[type[Linear]] | None = None,
) -> FastEngine | GpuEngine | PredictEngine:
    """Return the fastest engine whose scores match `encoder.predict`.

    Arguments that are None are found by measuring. `linears` are the exact kinds of layers to try,
    best first; by default, all kinds that the model supports.
    """
    cores = threads or cpu_count()
    predict = PredictEngine(encoder, cores, max_batch_tokens)
    if registry.find(encoder) is None or not gives_logits(encoder):
        name = type(encoder.model).__name__
        logger.info("Scoring with CrossEncoder.predict: there is no fast path for %s", name)
        return _prepared(predict, max_batch_tokens)
    if encoder.model.device.type == "cpu":
        candidates = on_cpu(encoder, cores, linears or exact_linears(encoder))
    else:
        candidates = on_gpu(encoder, FUNCTIONS)
    fast = fastest_exact(candidates, predict)
    if fast is None:
        return _prepared(predict, max_batch_tokens)
    fast.tune(threads, max_batch_tokens)
    return fast


def exact_linears(encoder: CrossEncoder) -> tuple[type[Linear], ...]:
    """Return the exact kinds of linear layers for the model's device and precision, best first."""
    packed = _packable(encoder) and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return (PackedLinear, Linear) if packed else (Linear,)


def on_cpu(encoder: CrossEncoder, threads: int, linears: Sequence[type[Linear]]) -> list[Candidate]:
    """Return the engines to try on a CPU, one for each kind of linear layer."""
    return [
        Candidate(
            "plain layers" if linear is Linear else linear.__name__,
            partial(FastEngine, encoder, linear, threads),
        )
        for linear in linears
    ]


def on_gpu(encoder: CrossEncoder, functions: Mapping[str, MakeFunction]) -> list[Candidate]:
    """Return the engines to try on a GPU, one for each function for attention."""

    def make(function: MakeFunction) -> GpuEngine:
        return GpuEngine(encoder, function())

    return [Candidate(name, partial(make, function)) for name, function in functions.items()]


def fastest_exact(
    candidates: Sequence[Candidate], predict: PredictEngine
) -> FastEngine | GpuEngine | None:
    """Return the first of our engines whose scores match those of `predict`, or None.

    The best candidates use operators that another version of a library may lack or reject. If one
    raises an error, the next one is tried.
    """
    expected = predict.run(PROBES).scores
    reasons = []
    for candidate in candidates:
        try:
            fast = candidate.make()
            apart = float(np.max(np.abs(fast.run(PROBES).scores - expected)))
        except Exception as error:
            if cuda_errors.ends_the_gpu(error):
                raise
            if candidate is candidates[-1] and memory.ran_out(error):
                raise
            reasons.append(f"{candidate.name} failed ({reason_of(error)})")
            continue
        if apart <= TOLERANCES[fast.dtype]:
            for reason in reasons:
                logger.warning("Falling back to %s, which are slower: %s", candidate.name, reason)
            logger.info(
                "Scoring with the fast path, which matches CrossEncoder.predict within %.1e",
                apart,
            )
            return fast
        reasons.append(
            f"its scores differ from CrossEncoder.predict by {apart:.1e} with {candidate.name}"
            f" (tolerance {TOLERANCES[fast.dtype]:g})"
        )
    logger.warning(
        "Scoring with CrossEncoder.predict instead of the fast path: %s", "; ".join(reasons)
    )
    return None


def _prepared(predict: PredictEngine, max_batch_tokens: int | None) -> PredictEngine:
    predict.prepare(max_batch_tokens)
    return predict


def _packable(encoder: CrossEncoder) -> bool:
    return bool(encoder.model.device.type == "cpu" and encoder.model.dtype == torch.float32)
