"""The models of a process, and the threads that run them for asyncio programs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property

from worker.engine import ScorerCache


class ProcessModels:
    """Models shared by the rerankers of a process. Each model is loaded once."""

    def __init__(self) -> None:
        self.scorers = ScorerCache()

    @cached_property
    def executor(self) -> ThreadPoolExecutor:
        """A thread pool with one thread per core: only scoring takes turns."""
        # This import takes a fifth of a second, and only asyncio programs need it.
        from joblib import cpu_count

        return ThreadPoolExecutor(cpu_count(), thread_name_prefix="rerank")


_creating = threading.Lock()


def process_models() -> ProcessModels:
    """Return the models of this process, the same on each call."""
    with _creating:
        return _process_models()


@cache
def _process_models() -> ProcessModels:
    return ProcessModels()
