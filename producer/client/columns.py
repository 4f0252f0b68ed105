"""A client whose jobs and results are columns, for programs that handle many pairs."""

from __future__ import annotations

from collections.abc import Collection

from contract import metrics, names
from contract.batches import RunProgress
from contract.columns import JobColumns
from contract.store import outcomes, overview, runs
from contract.store.operation import Operation
from contract.store.outcomes import ColumnsOrError
from producer.client import arguments, procedures
from producer.client.blocking import RerankClient
from producer.client.watch import OutcomeWatch


class ColumnsClient(RerankClient):
    """A client that also queues and returns columns: see `contract.columns`."""

    def submit_columns(self, job: JobColumns, *, priority: int = names.PRIORITY_BULK) -> str:
        """Queue a job that is within the limits; return its id.

        Raises the errors of `submit`. The job is never split.
        """
        priority = arguments.check_priority(priority)
        return self._run(procedures.queue_columns(self._schema, self._publisher, job, priority))

    def count(self, counts: metrics.Counts) -> None:
        """Add to counters of the service. Raises `RedisUnavailable`."""
        self._store.execute(overview.count(self._schema, counts))

    def note_run(self, run: RunProgress) -> None:
        """Store the progress of a run. Raises `RedisUnavailable`."""
        self._store.execute(runs.note(self._schema, run))

    def watch_columns(self) -> OutcomeWatch[ColumnsOrError]:
        """Return a watch that waits for several jobs; use it in a `with` block."""
        return ColumnsWatch(self._runner.subscriptions, self._store)


class ColumnsWatch(OutcomeWatch[ColumnsOrError]):
    """A watch that returns results as columns."""

    def _fetch(self, job_ids: Collection[str]) -> Operation[dict[str, ColumnsOrError]]:
        return outcomes.fetch_columns(self._store.schema, list(job_ids))
