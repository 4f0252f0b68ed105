"""Where a service keeps its records in Redis, and for how long."""

from __future__ import annotations

from contract import names
from contract.settings import Settings


class Schema:
    """The keys and times to live of one namespace. Holds no connection."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = names.Keys(settings.namespace)

    @property
    def state_ttl_s(self) -> int:
        """How long a job's state is remembered: never less than its payload or its outcome."""
        settings = self.settings
        return max(settings.job_ttl_s, settings.payload_ttl_s, settings.result_ttl_s)
