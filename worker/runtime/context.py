"""The shared state of a worker's parts, carried by the app instead of globals."""

from __future__ import annotations

import logging
import time
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from contract.errors import RedisRefused, RedisUnavailable, RerankError
from contract.store.blocking import JobStore
from contract.store.operation import Operation, Schema
from worker.runtime import pool_kinds
from worker.runtime.connection import CHILD_TIMEOUT_S, MAIN_TIMEOUT_S, open_store
from worker.runtime.counters import PendingCounters, WorkerObserver
from worker.runtime.exit_reason import ExitReason
from worker.runtime.load_progress import LoadProgress
from worker.runtime.loaded_scorings import LoadedScorings
from worker.runtime.models import LoadedModels
from worker.runtime.pool_kinds import PoolLayout
from worker.runtime.settings import WorkerSettings

if TYPE_CHECKING:
    from worker.runtime.models import PreparedModels

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Delay between retries.
RETRY_PAUSE_S = 1.0


class WorkerContext:
    """The settings of a worker, and the shared objects of one of its processes.

    The main process creates it before it forks. Data that children share with it is in shared
    memory.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.schema = Schema(settings)
        self.counters = PendingCounters()
        self.exit_reason = ExitReason()
        self.load_progress = LoadProgress()
        self.loaded_scorings = LoadedScorings()
        #: Replaced once the worker's pool is known.
        self.pool_layout = PoolLayout.of_one_process()
        #: Models that children share with the main process.
        self.prepared_models: PreparedModels = {}
        self._stores: dict[float, JobStore] = {}

    @cached_property
    def models(self) -> LoadedModels:
        """The models of this process, which has no children."""
        return self.new_models(self.prepared_models)

    def new_models(self, prepared: PreparedModels) -> LoadedModels:
        """Return models that this process loads on first use, except the `prepared` ones."""
        observer = WorkerObserver(self.counters, self.load_progress)
        place = pool_kinds.place_in_pool()
        threads, loaded = self.pool_layout.threads, self.loaded_scorings
        return LoadedModels(self.settings, threads, place, observer, loaded, prepared)

    def store(self, timeout_s: float) -> JobStore:
        """Return this process's store, which waits at most `timeout_s` for a reply from Redis."""
        if timeout_s not in self._stores:
            self._stores[timeout_s] = open_store(self.schema, timeout_s)
        return self._stores[timeout_s]

    def retry_until_available(self, operation: Operation[T]) -> T:
        """Run the operation in a child, and retry while Redis is unavailable.

        Scores that cannot be recorded must not become a failure. Raises `RedisUnavailable` after
        RERANKQ_TIME_LIMIT_S, and `RedisRefused` immediately.
        """
        store, began = self.store(CHILD_TIMEOUT_S), time.monotonic()
        while True:
            try:
                return store.execute(operation)
            except RedisRefused:
                raise
            except RedisUnavailable as error:
                if time.monotonic() - began > self.settings.time_limit_s:
                    raise
                logger.warning("Waiting for Redis: %s", error)
                # After a failover, an idle connection may lead to a server that is now a replica.
                # Keep the connections that other threads are using.
                store.client.connection_pool.disconnect(inuse_connections=False)
                time.sleep(RETRY_PAUSE_S)

    def best_effort(self, operation: Operation[T]) -> T | None:
        """Run the operation in the main process without a retry; return None if it fails."""
        try:
            return self.store(MAIN_TIMEOUT_S).execute(operation)
        except RerankError as error:
            logger.warning("Failed to access Redis, continuing without it: %s", error)
            return None
