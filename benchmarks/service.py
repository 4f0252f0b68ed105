"""An embedded Redis and a worker as local processes, which are always stopped at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks import memory
from benchmarks.runner import environment
from contract.settings import Settings
from producer.cli.local_stack import LocalStack
from producer.cli.loopback import free_port


class Service(LocalStack):
    """A worker with `children` children on a fresh Redis, without Flower."""

    def __init__(
        self,
        model: str,
        children: int,
        threads_each: int,
        logs: Path,
        added: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            Settings.load(),
            logs,
            model,
            children,
            free_port(),
            flower_port=None,
            say=lambda _: None,
            environment=environment(threads_each)
            | {"RERANKQ_THREADS": str(threads_each)}
            | dict(added or {}),
        )
        self.children = children
        self.threads_each = threads_each

    @property
    def url(self) -> str:
        """The URL of its Redis."""
        return self.settings.redis_url.get_secret_value()

    def worker_children(self) -> list[int]:
        """Return the processes that score."""
        return memory.children(self.pid("worker"))
