"""Debian's redis-server as a process, for what the embedded server cannot do: TLS."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.processes import end, wait_until

PROGRAM = shutil.which("redis-server")


@contextmanager
def redis_server(port: int, folder: Path, configuration: Mapping[str, str]) -> Iterator[None]:
    """A server on loopback, which listens on `port` when the block begins.

    Skips the test where there is none, but never in CI.
    """
    if PROGRAM is None:
        assert os.environ.get("CI") != "true", "CI must have redis-server"
        pytest.skip("redis-server is not installed")
    lines = {"bind": "127.0.0.1", "dir": str(folder), "save": '""'} | dict(configuration)
    # A file, because whoever lists processes sees their arguments.
    (folder / "redis.conf").write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, str(folder / "redis.conf")], stdout=log, stderr=log)
        try:
            wait_until(lambda: process.poll() is not None or _listens(port), "redis-server listens")
            assert process.poll() is None, (folder / "redis.log").read_text()
            yield
        finally:
            end(process)


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
