"""Choose the engine for a model: our own network if its scores match those of `predict`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from joblib import cpu_count
from sentence_transformers import CrossEncoder

from worker.engine import memory, predict_engine
from worker.engine.encoders import gives_logits
from worker.engine.families import registry
from worker.engine.fast_engine import FastEngine
from worker.engine.linear import Int8Linear, Linear, PackedLinear
from worker.engine.predict_engine import PredictEngine
from worker.engine.probes import PROBES, TOLERANCES

logger = logging.getLogger(__name__)


def choose(
    encoder: CrossEncoder,
    *,
    int8: bool,
    threads: int | None,
    max_batch_tokens: int | None,
    linears: Sequence[type[Linear]] | None = None,
) -> FastEngine | PredictEngine:
    """Return the fastest engine whose scores match `encoder.predict` (approximately, in int8).

    Arguments that are None are found by measuring. `linears` are the exact kinds of layers to try,
    best first; by default, all kinds that the model supports. Raises `ValueError` if the model has
    no int8 version.
    """
    cores = threads or cpu_count()
    predict = PredictEngine(encoder, cores, max_batch_tokens or predict_engine.BATCH_TOKENS)
    if registry.find(encoder) is None or not gives_logits(encoder):
        name = type(encoder.model).__name__
        logger.info("Scoring with CrossEncoder.predict: there is no fast path for %s", name)
        return _checked(predict, int8)
    fast = _fast_and_exact(encoder, predict, cores, linears or exact_linears(encoder))
    if fast is None:
        return _checked(predict, int8)
    if int8:
        if not _packable(encoder):
            raise ValueError("8-bit weights (@int8) require float32 weights on a CPU")
        fast = FastEngine(encoder, Int8Linear, fast.threads)
    fast.tune(threads, max_batch_tokens)
    return fast


def exact_linears(encoder: CrossEncoder) -> tuple[type[Linear], ...]:
    """Return the exact kinds of linear layers for the model's device and precision, best first."""
    packed = _packable(encoder) and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return (PackedLinear, Linear) if packed else (Linear,)


def _fast_and_exact(
    encoder: CrossEncoder, predict: PredictEngine, threads: int, linears: Sequence[type[Linear]]
) -> FastEngine | None:
    """Return the fastest of our engines whose scores match those of `predict`, or None.

    Packed layers use private operators of torch, which another version may lack or reject. If they
    raise an error, plain layers are used.
    """
    expected = predict.run(PROBES).scores
    reasons = []
    for linear in linears:
        try:
            fast = FastEngine(encoder, linear, threads)
            apart = float(np.max(np.abs(fast.run(PROBES).scores - expected)))
        except Exception as error:
            if linear is Linear and memory.ran_out(error):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            reasons.append(f"{linear.__name__} failed ({reason})")
            continue
        if apart <= TOLERANCES[fast.dtype]:
            for reason in reasons:
                logger.warning("Falling back to plain layers, which are slower: %s", reason)
            logger.info(
                "Scoring with the fast path, which matches CrossEncoder.predict within %.1e",
                apart,
            )
            return fast
        reasons.append(
            f"its scores differ from CrossEncoder.predict by {apart:.1e} with {linear.__name__}"
            f" (tolerance {TOLERANCES[fast.dtype]:g})"
        )
    logger.warning(
        "Scoring with CrossEncoder.predict instead of the fast path: %s", "; ".join(reasons)
    )
    return None


def _checked(predict: PredictEngine, int8: bool) -> PredictEngine:
    if int8:
        raise ValueError("8-bit weights (@int8) are supported only for models with a fast path")
    predict.check_batching()
    return predict


def _packable(encoder: CrossEncoder) -> bool:
    return bool(encoder.model.device.type == "cpu" and encoder.model.dtype == torch.float32)
