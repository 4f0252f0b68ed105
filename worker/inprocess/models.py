"""The models of a process, and the threads in which asyncio programs wait for them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property

from worker.engine import ScorerCache


class ProcessModels:
    """What rerankers of one process share: each model is loaded once."""

    def __init__(self) -> None:
        self.scorers = ScorerCache()

    @cached_property
    def executor(self) -> ThreadPoolExecutor:
        """Have one thread a core: the model takes turns, the rest of a call need not."""
        # Takes a fifth of a second, which only asyncio programs need to wait.
        from joblib import cpu_count

        return ThreadPoolExecutor(cpu_count(), thread_name_prefix="rerank")


_creating = threading.Lock()


def process_models() -> ProcessModels:
    """Return the models of this process, the same at each call."""
    with _creating:
        return _process_models()


@cache
def _process_models() -> ProcessModels:
    return ProcessModels()
