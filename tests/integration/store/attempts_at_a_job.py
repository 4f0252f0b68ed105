"""The actions of workers on one job, attempt by attempt."""

from __future__ import annotations

from typing import Any

from contract.jobs import JobState
from contract.store import attempts, statuses, submissions
from contract.store.attempts import Started
from contract.store.blocking import JobStore
from tests.integration.redis_state import PATIENCE_S
from tests.integration.sample_records import job
from tests.processes import wait_until

#: A lease that outlives any test, and one that soon expires.
LONG_S, SHORT_S = 60.0, 0.3

ME, OTHER, THIRD = "worker@a:11:me", "worker@b:12:other", "worker@c:13:third"


class Attempts:
    """The actions of workers on one job."""

    def __init__(self, store: JobStore) -> None:
        self.store, self.schema = store, store.schema
        self.made = job("j", requests=2)
        store.execute(submissions.accept(self.schema, self.made))

    def start(self, token: str, *, lease_s: float = LONG_S, max_attempts: int = 4) -> Started:
        return self.store.execute(
            attempts.start(self.schema, "j", token, max_attempts=max_attempts, lease_s=lease_s)
        )

    def renew(self, token: str, lease_s: float = LONG_S) -> bool:
        return self.store.execute(attempts.renew(self.schema, "j", token, lease_s))

    def release(self, token: str, *, downgrade: str = "", died: bool = False) -> bool:
        return self.store.execute(
            attempts.release(self.schema, "j", token, downgrade=downgrade, died=died)
        )

    def expire(self, token: str, lease_s: float = LONG_S) -> None:
        """Delete the lease of `token`, as if its process had been killed."""
        assert self.renew(token, SHORT_S)
        wait_until(lambda: not self.leased(), "the lease expires", PATIENCE_S)

    def leased(self) -> bool:
        return bool(self.store.client.exists(self.schema.keys.lease("j")))

    def state(self) -> tuple[JobState, int]:
        status = self.store.execute(statuses.fetch(self.schema, "j"))
        return status.state, status.attempts

    def fields(self) -> set[str]:
        found: Any = self.store.client.hkeys(self.schema.keys.job("j"))
        return {name.decode() for name in found}

    def live_jobs(self) -> tuple[bool, bool]:
        """Return whether the job counts as queued, and as running."""
        keys = self.schema.keys
        scores = [self.store.client.zscore(key, "j") for key in (keys.queued, keys.running)]
        return scores[0] is not None, scores[1] is not None
