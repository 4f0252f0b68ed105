"""A client that does something in the middle of the submission of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contract.settings import Settings
from producer.client.blocking import RerankClient


class HaltingClient(RerankClient):
    """Calls a function after the first jobs of a batch are queued, and before the next ones."""

    def __init__(self, settings: Settings, halt: Callable[[], object]) -> None:
        super().__init__(settings)
        self._halt = halt
        self._procedures = 0

    def _run(self, procedure: Any, watch: Any = None) -> Any:
        self._procedures += 1
        if self._procedures == 3:  # the first one stores the batch
            self._halt()
        return super()._run(procedure, watch)
