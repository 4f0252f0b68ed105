"""The steps of `CrossEncoder.predict` for one batch, for several threads at the same time."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.util import batch_to_device

from contract.printable import reason_of
from worker.engine import memory
from worker.engine.batches import ScoreArray
from worker.engine.encoders import gives_logits
from worker.engine.prompts import default_prompt
from worker.engine.protocol import Pair
from worker.engine.sdpa import without_cudnn
from worker.engine.threads import ScoringThreads


class Predict:
    """`CrossEncoder.predict` itself, with one batch for all pairs. It serves one thread."""

    def __init__(self, encoder: CrossEncoder) -> None:
        self._encoder = encoder
        self._activation = _activation(encoder)

    def __call__(self, pairs: Sequence[Pair]) -> ScoreArray:
        """Return the scores of a batch."""
        with without_cudnn(self._encoder.device):
            scores: ScoreArray = self._encoder.predict(
                list(pairs),
                batch_size=len(pairs),
                activation_fn=self._activation,
                show_progress_bar=False,
            )
        return scores


class PredictSteps:
    """The steps of `CrossEncoder.predict`, for any number of threads.

    Only tokenizing takes turns, because a tokenizer's truncation and padding are set in each call.
    """

    def __init__(self, encoder: CrossEncoder) -> None:
        self._encoder = encoder.eval()
        self._activation = _activation(encoder)
        self._one_score = int(encoder.num_labels) == 1
        self._tokenizing = threading.Lock()

    def __call__(self, pairs: Sequence[Pair]) -> ScoreArray:
        """Return the scores of a batch."""
        encoder = self._encoder
        with torch.inference_mode():
            with self._tokenizing:
                features = encoder.preprocess(list(pairs), prompt=default_prompt(encoder))
            scores = encoder(batch_to_device(features, encoder.device))["scores"]
            scores = self._activation(scores.float())
            if self._one_score and scores.ndim > 1:
                scores = scores.squeeze(-1)
            made: ScoreArray = scores.cpu().numpy()
        return made


def find_thread_dependence(
    steps: PredictSteps,
    made: Sequence[list[Pair]],
    expected: Sequence[ScoreArray],
    threads: int,
    tolerance: float,
) -> str | None:
    """Return how the scores of batches in threads differ from the expected ones; None if not.

    Each batch is scored once a thread, so that equal and different batches are scored at once.
    """
    try:
        scores = np.concatenate(ScoringThreads(threads).map(steps, list(made) * threads))
    except Exception as error:
        if memory.ran_out(error):
            raise
        return reason_of(error)
    apart = float(np.max(np.abs(scores - np.concatenate(list(expected) * threads))))
    if apart <= tolerance * max(1.0, float(np.max(np.abs(scores)))):
        return None
    return f"its scores differ by {apart:.1e}"


def _activation(encoder: CrossEncoder) -> torch.nn.Module:
    """Return the function from logits to scores: none, unless the model has its own."""
    own: torch.nn.Module = encoder.activation_fn
    return torch.nn.Identity() if gives_logits(encoder) else own
