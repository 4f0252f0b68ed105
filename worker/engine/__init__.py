"""Scoring of text pairs, without a queue.

    from worker.engine import load

    scorer = load("bundled")
    logits = scorer.score([("a query", "a document")])

`Scorer` accepts any `Engine`, including `worker.engine.stub`, which does not import torch. Names
are imported on first use, because Flower's settings import modules of this package on machines
without numpy and torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.engine.loader import import_libraries, load
    from worker.engine.observer import EngineObserver
    from worker.engine.protocol import Engine, Pair
    from worker.engine.scorer import Scorer
    from worker.engine.scorer_cache import ScorerCache
    from worker.engine.statistics import BatchStatistics

_HOMES = {
    "BatchStatistics": "worker.engine.statistics",
    "Engine": "worker.engine.protocol",
    "EngineObserver": "worker.engine.observer",
    "Pair": "worker.engine.protocol",
    "Scorer": "worker.engine.scorer",
    "ScorerCache": "worker.engine.scorer_cache",
    "import_libraries": "worker.engine.loader",
    "load": "worker.engine.loader",
}

__all__ = [
    "BatchStatistics",
    "Engine",
    "EngineObserver",
    "Pair",
    "Scorer",
    "ScorerCache",
    "import_libraries",
    "load",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
