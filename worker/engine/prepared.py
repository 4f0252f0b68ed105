"""Models that one process has loaded and verified, for other processes to score with.

Loading needs transformers and sentence-transformers, which take 150 to 300 MB in a process, and the
original weights. An engine of ours needs neither once it has been made.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from worker.engine import exchange
from worker.engine.batches import ScoreArray
from worker.engine.exchange import NotExchangeable
from worker.engine.fast_engine import FastEngine
from worker.engine.probes import PROBES
from worker.engine.protocol import Engine


@dataclass(frozen=True)
class PreparedModel:
    """An engine whose scores matched those of `predict`, and its scores of `PROBES`."""

    engine: FastEngine
    scores: ScoreArray
    #: The commit of a model on the hub, or the fingerprint of a local model's files.
    revision: str | None

    @classmethod
    def of(cls, engine: Engine, revision: str | None) -> PreparedModel | None:
        """Return the model of an engine in the process that has verified it.

        Return None if `predict` scores, or if the engine cannot be written to a file.
        """
        if not isinstance(engine, FastEngine):
            return None
        with suppress(NotExchangeable):
            exchange.require_exchangeable(engine)
            return cls(engine, engine.run(PROBES).scores, revision)
        return None

    def has_proven_scores(self) -> bool:
        """Return whether this process computes exactly the scores that were verified."""
        return bool(np.array_equal(self.engine.run(PROBES).scores, self.scores))
