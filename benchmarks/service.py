"""An embedded Redis and a worker as processes of this machine, ended whatever happens."""

from __future__ import annotations

from pathlib import Path

from benchmarks import memory
from benchmarks.runner import environment
from contract.settings import Settings
from producer.cli.local_stack import LocalStack
from producer.cli.loopback import free_port


class Service(LocalStack):
    """A worker with so many children on a fresh Redis, and no Flower beside what is measured."""

    def __init__(self, model: str, children: int, threads_each: int, logs: Path) -> None:
        super().__init__(
            Settings.load(),
            logs,
            model,
            children,
            free_port(),
            flower_port=None,
            say=lambda _: None,
            environment=environment(threads_each) | {"RERANKQ_THREADS": str(threads_each)},
        )
        self.children = children
        self.threads_each = threads_each

    @property
    def url(self) -> str:
        """Of its Redis."""
        return self.settings.redis_url.get_secret_value()

    def worker_children(self) -> list[int]:
        """Processes that score."""
        return memory.children(self.pid("worker"))
