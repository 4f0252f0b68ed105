"""Models that one process has loaded and proven, for other processes to score with.

Loading needs transformers and sentence-transformers, which take 150 to 300 MB in a process, and the
original weights. An engine of ours needs neither once it has been made.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from worker.engine.batches import ScoreArray
from worker.engine.fast_engine import FastEngine
from worker.engine.probes import PROBES


@dataclass(frozen=True)
class PreparedModel:
    """An engine whose scores matched those of `predict`, and its scores of `PROBES`."""

    engine: FastEngine
    scores: ScoreArray
    #: The commit of a model of the hub, or the fingerprint of a local model's files.
    revision: str | None

    @classmethod
    def of(cls, engine: FastEngine, revision: str | None) -> PreparedModel:
        """Return the model of an engine in the process that has proven it."""
        return cls(engine, engine.run(PROBES).scores, revision)

    def has_proven_scores(self) -> bool:
        """Return whether this process computes the scores that were proven, to the last bit."""
        return bool(np.array_equal(self.engine.run(PROBES).scores, self.scores))


def write(made: object, file: IO[bytes]) -> None:
    """Write models to a file that `read` reads."""
    _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(made)


def read(file: IO[bytes]) -> Any:
    """Return what another process of this program has written.

    Call it with one thread of torch if a fork may follow.
    """
    return pickle.load(file)  # noqa: S301


class _Pickler(pickle.Pickler):
    """Pickles tensors as arrays, because torch's own way copies them several times."""

    def reducer_override(self, made: object) -> Any:
        if isinstance(made, Tensor):
            return _tensor, (made.detach().contiguous().numpy(),)
        return NotImplemented


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    # A copy is aligned as torch aligns its tensors. Libraries may choose kernels by the alignment.
    return torch.from_numpy(array).clone()
